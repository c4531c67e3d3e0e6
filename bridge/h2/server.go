package h2

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/net/http2"
)

// Configure makes the http.Server serve its HTTP/2 connections with this
// package, those by TLS and those by prior knowledge. Which of them it takes
// is its Protocols' to say. Of the server it heeds HTTP2 (streams, windows,
// pings), IdleTimeout, ReadHeaderTimeout, MaxHeaderBytes, ConnState and
// ErrorLog, as they are when a connection begins; not ReadTimeout and
// WriteTimeout, which would cut streams. Call it before serving.
func Configure(hs *http.Server) {
	s := newServer()
	if hs.TLSNextProto == nil {
		hs.TLSNextProto = make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	}
	hs.TLSNextProto[http2.NextProtoTLS] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		s.serve(hs, c, h, false)
	}
	// net/http has read the preface, and hides the connection in one of TLS.
	hs.TLSNextProto["unencrypted_http2"] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		hidden, ok := c.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok {
			panic("BUG: net/http hands over HTTP/2 without TLS in another way")
		}
		s.serve(hs, hidden.UnencryptedNetConn(), h, true)
	}
	hs.RegisterOnShutdown(s.shutdown)
}

// A server is the set of connections of one http.Server.
type server struct {
	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
}

func newServer() *server { return &server{conns: make(map[*conn]struct{})} }

// serve returns when the connection is closed and its last handler has
// returned. net/http then closes it, too, and reports that.
//
//nolint:contextcheck // a connection's context comes with its handler
func (s *server) serve(hs *http.Server, nc net.Conn, h http.Handler, sawPreface bool) {
	ctx := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok { // how net/http passes it on
		ctx = b.BaseContext()
	}
	c := newConn(ctx, hs, nc, h)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	draining := s.draining
	s.mu.Unlock()
	if draining {
		c.shutdown()
	}
	c.serve(sawPreface)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// shutdown says goodbye on every connection. net/http waits for their ends.
func (s *server) shutdown() {
	s.mu.Lock()
	s.draining = true
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.shutdown()
	}
}
