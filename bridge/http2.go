package bridge

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// configureStandardHTTP2 gives net/http's HTTP/2 server the settings that a hook gives
// to bridge/internal/h2. It doesn't serve tunnels: there all listeners share one http.Server,
// and a tunnel's Write never waits for its client.
func configureStandardHTTP2(hs *http.Server, rules connRules) {
	if n := rules.listenerCalls; n > 0 {
		hs.HTTP2.MaxConcurrentStreams = min(hs.HTTP2.MaxConcurrentStreams, n)
	}
	hs.HTTP2.WriteByteTimeout = rules.slowConsumer
}

// h2Hooks returns the settings of HTTP/2 connections, and the functions that they call.
func (s *Server) h2Hooks(rules connRules) h2.Hooks {
	return h2.Hooks{
		Streams: func(c net.Conn) int {
			return s.policy.Load().listening(s.edge.ListenerOf(c)).CallsPerConnection
		},
		Lifetime: func(net.Conn) (idle, age time.Duration) {
			p := edge.NewSpread()
			return p.Of(rules.idle), p.Of(rules.age)
		},
		TooLarge:     s.refuseHeader,
		SlowConsumer: rules.slowConsumer,
		Left:         func(c net.Conn, n int) bool { return s.edge.Count(c, n*memory.RestBytes) },
		Panicked: func(c net.Conn, v any) {
			_ = s.panics.Note("an HTTP/2 connection", v, slog.String("peer", c.RemoteAddr().String()))
		},
		Ended: func(c net.Conn, why h2.End) { s.edge.Settle(c, string(why)) },
	}
}
