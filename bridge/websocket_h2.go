package bridge

import (
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/websocket"
)

// serveTunnel makes a net.Conn of a WebSocket and hands it to the inner server. Each
// call inside passes the gate like any other call.
func (s *Server) serveTunnel(w http.ResponseWriter, r *http.Request, a *arrival) {
	if s.refusing.Load() {
		w.Header().Set("Retry-After", "1")
		s.refuse(w, r, a, http.StatusServiceUnavailable, "this server is shutting down")
		return
	}
	if a.refused != nil {
		s.refuse(w, r, a, http.StatusForbidden, a.refused.Error())
		return
	}
	use, _ := a.use()
	if err := use.Handshake(""); err != nil {
		s.refuseOverLimit(w, r, a, http.StatusTooManyRequests, err)
		return
	}
	ws, err := s.accept(w, r, tunnelName)
	if err != nil {
		return // it was answered
	}
	c := &tunnelConn{s: s, ws: ws, code: websocket.StatusGoingAway}
	c.cond.L = &c.mu
	c.on = s.edge.NewTunnel(&edge.Tunnel{Outer: a.on, Addr: r.RemoteAddr, Host: r.Host, TLS: r.TLS, Header: outerHeader(r.Header)})
	if !s.sockets.start(c.write) {
		ws.Drop() // Close cuts what is left
		return
	}
	c.watch(a.policy)
	s.tunnels.offer(c)
}

// outerHeader returns the fields of the request for a tunnel that are kept for the
// tunnel's life. It leaves out those of the WebSocket's handshake: they never apply
// inside, and some clients put a token into Sec-WebSocket-Protocol. It keeps all
// others, at most limits.header_bytes for a tunnel, since a later policy may list any
// name among the vouched headers.
func outerHeader(h http.Header) http.Header {
	kept := make(http.Header, len(h))
	for name, values := range h {
		if name != "Connection" && name != "Upgrade" && !strings.HasPrefix(name, "Sec-Websocket-") {
			kept[name] = values
		}
	}
	return kept
}

// serveTunnels starts the server inside the tunnels: prior-knowledge HTTP/2
// and nothing else, so there is no upgrade within an upgrade.
func (s *Server) serveTunnels() {
	s.tunnels = &tunnels{conns: make(chan *tunnelConn), closed: make(chan struct{}), open: make(map[*tunnelConn]struct{})}
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
