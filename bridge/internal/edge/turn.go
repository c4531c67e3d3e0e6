package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Server is an http.Server that Watch has seen.
type Server struct {
	HTTP  *http.Server
	Leave func() // sends a goodbye on its HTTP/2 connections; nil: nothing can

	open atomic.Int64 // connections that it serves; those that were taken over don't count
	of   *boundedListener
	over atomic.Bool // another one serves the listener's next connections
}

// Current returns the Server for the connection that a listener has just accepted:
// before, or another one. Nobody else may serve that one. before is nil at first. One
// goroutine calls Current.
//
// The settings of an http.Server can't change while it serves. So after a change the
// next connection gets another Server. Older connections stay with theirs.
type Current func(before *Server) *Server

// A turn is the listener of one Server, until it is another Server's turn.
type turn struct {
	net.Listener
	edge    *Edge
	server  *Server
	current Current
	first   net.Conn // accepted at the end of the turn before
	next    *Server
	left    net.Conn // accepted for next
}

var errTurnOver = errors.New("another server has the next connections")

func (t *turn) Accept() (net.Conn, error) {
	if c := t.first; c != nil {
		t.first = nil
		return c, nil
	}
	c, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	next := t.choose()
	if next == t.server {
		return c, nil
	}
	// Before this server is over, or the listener would have none for a moment, in which
	// CloseListeners would miss it.
	next.of = t.server.of
	if !t.edge.take(next, false) {
		_ = c.Close() // nobody will serve it
		return nil, http.ErrServerClosed
	}
	t.next, t.left = next, c
	t.server.over.Store(true)
	return nil, errTurnOver
}

// choose returns the server of the next connection: this one, if the choice panics.
func (t *turn) choose() (next *Server) {
	defer t.edge.o.Panics.Catch("the choice of a server", func(*report.Fault) { next = t.server })
	return t.current(t.server)
}

// Close closes the listener, unless another Server has it now: http.Server.Serve closes
// its listener when it returns.
func (t *turn) Close() error {
	if t.server.over.Load() {
		return nil
	}
	return t.Listener.Close()
}

// serveInTurn serves a listener's connections until it is closed. of is the listener
// under ln, or nil for tunnels. e.mu isn't held.
func (e *Edge) serveInTurn(ln net.Listener, of *boundedListener, config *tls.Config, current Current) error {
	t := &turn{Listener: ln, edge: e, server: current(nil), current: current}
	t.server.of = of
	if !e.take(t.server, of != nil) { // tunnels come as long as connections do
		_ = ln.Close() // nobody will serve it
		return http.ErrServerClosed
	}
	for {
		var served net.Listener = t
		if config != nil {
			served = tls.NewListener(t, config)
		}
		err := t.server.HTTP.Serve(served)
		if t.first != nil {
			_ = t.first.Close() // the server had ended
		}
		if t.next == nil {
			return err
		}
		e.forgetIfOver(t.server)
		t = &turn{Listener: ln, edge: e, server: t.next, current: current, first: t.left}
	}
}

// take notes a server, unless TakeServers was called. A drain takes no socket's first
// server, but while CloseListeners empties the kernel's queue, the queue's connections
// still get another one.
func (e *Edge) take(s *Server, first bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || first && e.o.Draining() {
		return false
	}
	e.forgetEnded()
	e.servers[s] = struct{}{}
	return true
}

// note counts the server's connections.
func (e *Edge) note(s *Server, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		if s.open.Add(-1) == 0 && s.over.Load() {
			e.forgetIfOver(s)
		}
	case http.StateActive, http.StateIdle:
	}
}

// forgetIfOver forgets a server that gets no more connections, if it has none.
func (e *Edge) forgetIfOver(s *Server) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.open.Load() == 0 {
		delete(e.servers, s)
	}
}

// ServeTunnels serves the connections inside WebSockets, until TakeServers' servers
// end. It then returns http.ErrServerClosed.
func (e *Edge) ServeTunnels(ln net.Listener, current Current) error {
	return e.serveInTurn(ln, nil, nil, current)
}

// Servers returns how many servers serve, or may have connections.
func (e *Edge) Servers() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetEnded()
	return len(e.servers)
}

// Leave sends a goodbye on the HTTP/2 connections of the servers that run. Those of
// net/http's HTTP/2 get theirs with the answer to their next request. Later connections
// get none, because their clients would only open another one at once.
func (e *Edge) Leave() {
	e.left.Store(true)
	for _, leave := range e.leaves() {
		leave()
	}
}

func (e *Edge) leaves() (all []func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.servers {
		if s.Leave != nil {
			all = append(all, s.Leave)
		}
	}
	return all
}
