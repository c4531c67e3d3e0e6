package bridge

import (
	"errors"
	"net/http"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/tunnel"
)

const tunnelName = tunnel.Name // among the transports

// serveTunnel makes a net.Conn of a WebSocket and hands it to the inner server. Each
// call inside passes the gate like any other call.
func (s *Server) serveTunnel(w http.ResponseWriter, r *http.Request, a *arrival) {
	if s.refusing.Load() {
		s.answer(w, r, a, &report.Fault{Reason: report.ReasonDraining, Text: "this server is shutting down", Retry: report.AnyMoment})
		return
	}
	if a.refused != nil {
		s.refuseTunnel(w, r, a, a.refused, http.StatusForbidden)
		return
	}
	use := a.use()
	if err := use.Handshake(""); err != nil {
		s.refuseTunnel(w, r, a, err, http.StatusTooManyRequests)
		return
	}
	held := s.edge.Of(r).Held()
	if held == nil {
		held = s.account.NewEntry() // of no address: an embedder's server has accepted the connection
	}
	ws, err := s.accept(w, r, tunnelName, held)
	if err != nil {
		return // it was answered
	}
	c := s.tunnels.NewConn(ws, s.edge.NewTunnel(r), held.Buffers())
	if !s.sockets.Start(func() { defer held.SettleMessages(); c.Run() }) {
		ws.Drop() // Close cuts what is left
		return
	}
	ws.Watch(a.policy.keepAlive(func(err error) { c.End(silenceFault(err).Ends) }))
	s.tunnels.Offer(c)
}

// refuseTunnel refuses a tunnel with a fault, and an HTTP status in place of the fault's.
func (s *Server) refuseTunnel(w http.ResponseWriter, r *http.Request, a *arrival, err error, status int) {
	if f, ok := errors.AsType[*report.Fault](err); ok {
		f.HTTP = status
		s.refuse(w, r, a, f)
	}
}

// serveTunnels starts the server inside the tunnels: prior-knowledge HTTP/2
// and nothing else, so there is no upgrade within an upgrade.
func (s *Server) serveTunnels() {
	s.tunnels = tunnel.NewListener(tunnel.Options{Panics: s.panics, Goodbye: s.goodbye, Closing: s.closing.Load, StandardHTTP2: s.cfg.StandardHTTP2})
	own := s.edge.Own() // a tunnel names its listener itself
	current := s.current(own, func(rules connRules) *edge.Server {
		hs := &http.Server{Protocols: new(http.Protocols)} //nolint:gosec // boundHTTP sets the time-outs
		hs.Protocols.SetUnencryptedHTTP2(true)
		leave := s.boundHTTP(hs, rules)
		inner := s.edge.Watch(hs, own)
		inner.Leave = leave
		return inner
	})
	s.workers.Go(func() { _ = s.edge.ServeTunnels(s.tunnels, current) }) // ends with http.ErrServerClosed
}
