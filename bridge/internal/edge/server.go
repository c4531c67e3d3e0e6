package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"time"
)

// A Server is an http.Server that Watch has seen.
type Server struct {
	HTTP  *http.Server
	Leave func() // sends a goodbye on its HTTP/2 connections; nil: nothing can

	of *boundedListener // nil: tunnels'
}

// Watch prepares an http.Server: it counts the server's connections, and lets requests
// find theirs. It wraps ConnContext and ConnState if they are set.
func (e *Edge) Watch(hs *http.Server, l *Listening) *Server {
	connContext := hs.ConnContext
	hs.ConnContext = func(ctx context.Context, c net.Conn) (with context.Context) {
		with = ctx
		defer e.catch(c)
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		return context.WithValue(ctx, connKey{}, e.meet(c, l))
	}
	connState := hs.ConnState
	hs.ConnState = func(c net.Conn, state http.ConnState) {
		defer e.catch(c)
		e.noteState(l, c, state)
		if connState != nil {
			connState(c, state)
		}
	}
	return &Server{HTTP: hs}
}

// longIdle is the idle time of an http.Server without one. With none, net/http would set
// no deadline, and phase.go couldn't give a connection its own.
const longIdle = 100 * 365 * 24 * time.Hour

// Serve accepts connections for s until CloseListeners or the listener's end. It then
// returns http.ErrServerClosed.
func (e *Edge) Serve(ln net.Listener, l *Listening, s *Server) error {
	bounded := e.bound(ln, l)
	defer e.noteEnded(bounded)
	s.of = bounded
	s.HTTP.IdleTimeout = cmp.Or(s.HTTP.IdleTimeout, longIdle)
	var served net.Listener = bounded
	if l.TLS != nil {
		served = tls.NewListener(bounded, l.TLS)
	}
	err := e.serve(served, s)
	if e.o.Draining() && errors.Is(err, net.ErrClosed) {
		return http.ErrServerClosed // CloseListeners comes first
	}
	return err
}

// ServeTunnels serves the connections inside WebSockets, until TakeServers' servers
// end. It then returns http.ErrServerClosed.
func (e *Edge) ServeTunnels(ln net.Listener, s *Server) error { return e.serve(ln, s) }

func (e *Edge) serve(ln net.Listener, s *Server) error {
	if !e.take(s) {
		_ = ln.Close() // nobody will serve it
		return http.ErrServerClosed
	}
	return s.HTTP.Serve(ln)
}

// take notes a server, unless TakeServers was called. A drain takes no listener, but
// tunnels, which come as long as connections do.
func (e *Edge) take(s *Server) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || s.of != nil && e.o.Draining() {
		return false
	}
	e.forgetEnded()
	e.servers[s] = struct{}{}
	return true
}

// noteEnded notes that Serve accepts no more connections for the listener.
func (e *Edge) noteEnded(ln *boundedListener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ln.ended = true
	e.forgetEnded()
}

// forgetEnded forgets the listeners that have ended, and their servers, once all
// connections under their rules have ended. mu is held.
func (e *Edge) forgetEnded() {
	maps.DeleteFunc(e.servers, func(s *Server, _ struct{}) bool { return s.of != nil && s.of.ended && s.of.of.Open() == 0 })
}

// TakeServers returns the servers that Serve and ServeTunnels run. From then on these
// run none.
func (e *Edge) TakeServers() []*http.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	servers := make([]*http.Server, 0, len(e.servers))
	for s := range e.servers {
		servers = append(servers, s.HTTP)
	}
	return servers
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
