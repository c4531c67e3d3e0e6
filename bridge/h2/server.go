package h2

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Configure makes the http.Server serve its HTTP/2 connections with this
// package, those by TLS and those by prior knowledge. Which of them it takes
// is its Protocols' to say. Of the server it heeds HTTP2 (streams, windows,
// pings), IdleTimeout, ReadHeaderTimeout, MaxHeaderBytes, ConnState and
// ErrorLog, as they are when a connection begins; not ReadTimeout and
// WriteTimeout, which would cut streams. Call it before serving.
func Configure(hs *http.Server, hooks Hooks) {
	s := newServer()
	s.hooks = hooks
	if hs.TLSNextProto == nil {
		hs.TLSNextProto = make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	}
	hs.TLSNextProto[http2.NextProtoTLS] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		state := c.ConnectionState()
		s.serve(hs, c, &state, h, false)
	}
	// net/http has read the preface, and hides the connection in one of TLS.
	hs.TLSNextProto["unencrypted_http2"] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		hidden, ok := c.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok {
			panic("BUG: net/http hands over unencrypted HTTP/2 in an unknown way")
		}
		s.serve(hs, hidden.UnencryptedNetConn(), nil, h, true)
	}
	hs.RegisterOnShutdown(s.shutdown)
}

// Hooks are what the owner of a server says and hears of single connections.
// The functions are called from the connection's goroutines, with the net.Conn that
// ConnState gets.
type Hooks struct {
	// Streams says how many streams the client may have at once, where that is
	// less than the http.Server says. 0, and a nil Streams, say nothing.
	Streams func(nc net.Conn) int

	// Lifetime says after how long without a stream a connection is ended, and
	// after how long it takes no new streams. Both ends are goodbyes: streams
	// that run may end. 0 is no bound. If nil, IdleTimeout is all there is.
	Lifetime func(nc net.Conn) (idle, age time.Duration)

	// SlowConsumer is for how long a client may leave a ping unanswered that
	// waits behind data, and take nothing of it. 0 is no bound.
	SlowConsumer time.Duration

	// TooLarge answers a request whose header is over the limit; the fields
	// beyond it are missing. If nil, that is answered with 431.
	TooLarge http.HandlerFunc

	// Ended is told once why a connection ends, before it is closed. If nil,
	// nobody is.
	Ended func(nc net.Conn, why End)
}

// An End is why a connection ends.
type End string

// The reasons.
const (
	EndOrderly  End = ""         // by the client, or by a handler
	EndIdle     End = "idle"     // no stream for too long
	EndAge      End = "age"      // it lived for long enough
	EndShutdown End = "shutdown" // the server ends
	EndSilent   End = "silent"   // pings were not answered
	EndSlow     End = "slow"     // what had begun did not come in time
	EndFlood    End = "flood"    // too much of what costs its sender nothing
	EndProtocol End = "protocol" // what came is no HTTP/2
)

// A server is the set of connections of one http.Server.
type server struct {
	hooks Hooks

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
}

func newServer() *server { return &server{conns: make(map[*conn]struct{})} }

// serve returns when the connection is closed and its last handler has
// returned. net/http then closes it, too, and reports that. state is that of its TLS,
// or nil.
//
//nolint:contextcheck // a connection's context comes with its handler
func (s *server) serve(hs *http.Server, nc net.Conn, state *tls.ConnectionState, h http.Handler, sawPreface bool) {
	ctx := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok { // how net/http passes it on
		ctx = b.BaseContext()
	}
	c := newConn(ctx, hs, nc, h, s.hooks)
	c.tls = state
	s.mu.Lock()
	s.conns[c] = struct{}{}
	draining := s.draining
	s.mu.Unlock()
	if draining {
		c.shutdown(EndShutdown)
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
		c.shutdown(EndShutdown)
	}
}
