package bridge

import (
	"net"
	"time"

	"github.com/culvert-grpc/culvert/bridge/h2"
)

// h2Hooks are what HTTP/2 asks and tells of its connections.
func (s *Server) h2Hooks() h2.Hooks {
	return h2.Hooks{
		Streams: func(c net.Conn) int { return s.cameInOn(c).CallsPerConnection },
		Lifetime: func(net.Conn) (idle, age time.Duration) {
			p := newSpread()
			return p.of(s.limits.ConnectionIdleTimeout), p.of(s.limits.ConnectionMaxAge)
		},
		TooLarge:     s.refuseHeader,
		SlowConsumer: s.limits.SlowConsumerTimeout,
		Ended:        func(c net.Conn, why h2.End) { lifeOf(c).settle(string(why)) },
	}
}
