package bridge

import (
	"errors"
	"net/http"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/tunnel"
	"github.com/culvert-grpc/culvert/bridge/report"
)

const tunnelName = tunnel.Name // among the transports

// serveTunnel makes a net.Conn of a WebSocket and hands it to the inner server. Each
// call inside passes the gate like any other call.
func (a *arrival) serveTunnel(w http.ResponseWriter, r *http.Request) {
	if a.s.refusing.Load() {
		a.answer(w, r, &report.Fault{Reason: report.ReasonDraining, Text: "this server is shutting down", Retry: report.AnyMoment})
		return
	}
	if a.refused != nil {
		a.refuseTunnel(w, r, a.refused, http.StatusForbidden)
		return
	}
	use := a.use(&a.decision)
	if err := use.Handshake(""); err != nil {
		a.refuseTunnel(w, r, err, http.StatusTooManyRequests)
		return
	}
	held := a.s.edge.Of(r).Held()
	if held == nil {
		held = a.s.account.NewEntry() // of no address: an embedder's server has accepted the connection
	}
	ws, err := a.s.accept(w, r, tunnelName, held)
	if err != nil {
		return // it was answered
	}
	on := a.s.edge.NewTunnel(r)
	kept := headers.Size(metadata.MD(on.Tunnel().Header))
	held.Add(memory.Fixed, kept)
	c := a.s.tunnels.NewConn(ws, on, held.Buffers())
	probation := a.beginSession(r, c)
	if !a.s.sockets.Start(func() {
		defer held.SettleMessages()
		defer held.Sub(memory.Fixed, kept)
		defer probation.pass() // there is nothing to close
		c.Run()
	}) {
		probation.pass()
		held.Sub(memory.Fixed, kept)
		ws.Drop() // Close cuts what is left
		return
	}
	watch := a.policy.keepAlive(func(err error) { c.End(silenceFault(err).Ends) })
	watch.Blocked = c.Blocked
	ws.Watch(watch)
	a.s.tunnels.Offer(c)
}

// beginSession gives a tunnel its session, if there is an Authenticator. It returns the session's
// probation, which must end with the tunnel, or nil: an Authenticator that is only tried out closes
// no tunnel.
func (a *arrival) beginSession(r *http.Request, c *tunnel.Conn) *probation {
	if a.policy.auth == nil {
		return nil
	}
	s, server := a.newSession(r), a.s
	if !a.policy.tryAuth {
		s.probation = newProbation(func() {
			if now := server.policy.Load(); now.auth != nil && !now.tryAuth {
				c.Expel(unproved.Ends, unproved.Text)
			}
		})
	}
	c.EdgeConn().Tunnel().Session.Store(s)
	return s.probation
}

// refuseTunnel refuses a tunnel with a fault, and an HTTP status in place of the fault's.
func (a *arrival) refuseTunnel(w http.ResponseWriter, r *http.Request, err error, status int) {
	if f, ok := errors.AsType[*report.Fault](err); ok {
		f.HTTP = status
		a.refuse(w, r, f)
	}
}

// serveTunnels starts the server inside the tunnels: prior-knowledge HTTP/2
// and nothing else, so there is no upgrade within an upgrade.
func (s *Server) serveTunnels() {
	s.tunnels = tunnel.NewListener(tunnel.Options{Panics: s.panics, Goodbye: s.goodbye, Closing: s.closing.Load, StandardHTTP2: s.cfg.StandardHTTP2})
	hs := &http.Server{Protocols: new(http.Protocols)} //nolint:gosec // boundHTTP sets the time-outs
	hs.Protocols.SetUnencryptedHTTP2(true)
	// A tunnel names its listener itself. Its WebSocket's pings watch the client: a browser
	// answers them while its page is blocked, frozen or hidden, but not those of HTTP/2.
	inner := s.boundHTTP(hs, s.edge.Own(), 0)
	s.workers.Go(func() { _ = s.edge.ServeTunnels(s.tunnels, inner) }) // ends with http.ErrServerClosed
}
