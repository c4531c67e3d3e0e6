package bridge

import (
	"log/slog"
	"net"
	"net/http"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// h2Hooks returns the rules of HTTP/2 connections, and the functions that they call.
func (s *Server) h2Hooks() h2.Hooks {
	return h2.Hooks{
		Rules: func(c net.Conn) h2.Rules {
			r, spread := s.policy.Load().connRules(s.edge.ListenerOf(c)), edge.NewSpread()
			r.Idle, r.Age = spread.Of(r.Idle), spread.Of(r.Age)
			return r
		},
		TooLarge: func(w http.ResponseWriter, r *http.Request) { // r has only the fields that were read
			p := s.policy.Load()
			r = s.throughTunnel(r, p)
			s.arrive(r, p, nil).refuse(w, r, tooLargeHeader())
		},
		Left: func(c net.Conn, n int) bool { return s.edge.Count(c, n*memory.RestBytes) },
		Panicked: func(c net.Conn, v any) {
			_ = s.panics.Note("an HTTP/2 connection", v, slog.String("peer", c.RemoteAddr().String()))
		},
		Ended: func(c net.Conn, why h2.End) { s.edge.Settle(c, string(why)) },
	}
}
