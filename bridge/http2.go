package bridge

import (
	"net"
	"net/http"
	"time"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/h2"
)

// configureHTTP2 chooses the server of an http.Server's HTTP/2. net/http's has
// no hooks: docs/guides/http2-server.md lists what is lost with it.
func (s *Server) configureHTTP2(hs *http.Server) {
	if !s.cfg.StandardHTTP2 {
		leave := h2.Configure(hs, s.h2Hooks())
		s.leaving.mu.Lock()
		defer s.leaving.mu.Unlock()
		s.leaving.all = append(s.leaving.all, leave)
	}
}

// configureStandardHTTP2 gives net/http's HTTP/2 server the settings that a hook gives
// to bridge/h2. It doesn't serve tunnels: there all listeners share one http.Server,
// and a tunnel's Write never waits for its client.
func (s *Server) configureStandardHTTP2(hs *http.Server, l *edge.Listening) {
	if !s.cfg.StandardHTTP2 {
		return
	}
	if n := l.CallsPerConnection; n > 0 {
		hs.HTTP2.MaxConcurrentStreams = min(hs.HTTP2.MaxConcurrentStreams, n)
	}
	hs.HTTP2.WriteByteTimeout = s.limits.SlowConsumerTimeout
}

// h2Hooks returns the settings of HTTP/2 connections, and the functions that they call.
func (s *Server) h2Hooks() h2.Hooks {
	return h2.Hooks{
		Streams: s.edge.Streams,
		Lifetime: func(net.Conn) (idle, age time.Duration) {
			p := edge.NewSpread()
			return p.Of(s.limits.ConnectionIdleTimeout), p.Of(s.limits.ConnectionMaxAge)
		},
		TooLarge:     s.refuseHeader,
		SlowConsumer: s.limits.SlowConsumerTimeout,
		Ended:        func(c net.Conn, why h2.End) { s.edge.Settle(c, string(why)) },
	}
}
