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

// Configure makes the http.Server serve its HTTP/2 connections with this package, over
// TLS and with prior knowledge. The server's Protocols decide which of these it
// accepts. Configure uses these fields of the server, with their values when a
// connection begins: HTTP2 (streams, windows, pings), IdleTimeout, ReadHeaderTimeout,
// MaxHeaderBytes, ConnState and ErrorLog. Hooks.Rules replaces some of them.
// Configure doesn't use ReadTimeout and WriteTimeout, which would cut streams. Call it
// before serving.
//
// A connection with a method SendsPreface that returns true has told net/http of a preface
// that hasn't come yet: it is read from the connection behind this server's SETTINGS.
//
// leave sends a goodbye on every connection that is open now. The connection ends when
// its streams have ended.
func Configure(hs *http.Server, hooks Hooks) (leave func()) {
	s := newServer()
	s.hooks = hooks
	if hs.TLSNextProto == nil {
		hs.TLSNextProto = make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	}
	hs.TLSNextProto[http2.NextProtoTLS] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		state := c.ConnectionState()
		s.serve(hs, c, &state, h, false)
	}
	// net/http has read the preface, and wraps the connection in one of TLS.
	hs.TLSNextProto["unencrypted_http2"] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		hidden, ok := c.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok {
			panic("BUG: net/http hands over unencrypted HTTP/2 in an unknown way")
		}
		nc := hidden.UnencryptedNetConn()
		in, ok := nc.(carrier)
		s.serve(hs, nc, nil, h, !ok || !in.SendsPreface())
	}
	hs.RegisterOnShutdown(func() { s.shutdown(true) })
	return func() { s.shutdown(false) }
}

// A carrier is a net.Conn that carries HTTP/2 inside another protocol.
type carrier interface {
	// SendsPreface reports that the client's preface still comes although net/http has
	// read one.
	SendsPreface() bool

	// Carries gets a function that reports whether data waits for the client to read or to
	// open a window: the carrier's pings may watch the client in place of HTTP/2's. leave
	// ends the connection with all of its streams, and gives the client the text as the
	// reason.
	Carries(blocked func() bool, leave func(why, text string))
}

// Hooks are the owner's settings and functions for single connections. The connection's
// goroutines call the functions, with the net.Conn that ConnState gets.
type Hooks struct {
	// Rules returns the rules of a connection that begins. If nil, those of the
	// http.Server apply.
	Rules func(nc net.Conn) Rules

	// TooLarge answers a request whose header is over the limit; the fields beyond it
	// are missing. If nil, the answer is 431.
	TooLarge http.HandlerFunc

	// Left is told that n more streams wait for the client behind handlers that have
	// returned, or fewer if n is negative. If it returns false, there is no room for one
	// more: it is reset, or has a few seconds if the client opens windows. Left may be nil.
	Left func(nc net.Conn, n int) bool

	// Panicked is told of a panic that ended the connection, or one of its streams: on the
	// goroutine that panicked, with debug.Stack there. If nil, ErrorLog has it.
	Panicked func(nc net.Conn, v any)

	// Ended is called once with the reason why a connection ends, before its close. It
	// may be nil.
	Ended func(nc net.Conn, why End)
}

// Rules are what a connection takes when it begins, and keeps to its end.
type Rules struct {
	Streams     int // at once
	Window      int // for received bytes of all streams together, at least 64 KiB - 1
	HeaderBytes int // of a request, as http.Server.MaxHeaderBytes counts

	// Idle is how long a connection may be without a stream before it ends, and Age how
	// long it accepts new streams. Both ends are goodbyes: running streams may finish.
	// 0 means no bound.
	Idle, Age time.Duration

	// SlowConsumer is how long a client may leave unanswered a ping that waits behind
	// data, without accepting any of the data. 0 means no bound.
	SlowConsumer time.Duration
}

// An End is why a connection ends.
type End string

// The reasons.
const (
	EndOrderly  End = ""         // by the client, or by a handler
	EndIdle     End = "idle"     // no stream for too long
	EndAge      End = "age"      // it reached its age limit
	EndShutdown End = "shutdown" // the server shuts down
	EndSilent   End = "silent"   // pings were not answered
	EndSlow     End = "slow"     // something that had begun did not finish in time
	EndFlood    End = "flood"    // too many frames that cost their sender nothing
	EndProtocol End = "protocol" // the input is not HTTP/2
)

// A server is the set of connections of one http.Server.
type server struct {
	hooks Hooks

	mu    sync.Mutex
	conns map[*conn]struct{}
	hurry bool
}

func newServer() *server { return &server{conns: make(map[*conn]struct{})} }

// serve returns when the connection is closed and its last handler has returned.
// net/http then closes it, too, and reports that. state is the state of its TLS, or
// nil.
//
//nolint:contextcheck // a connection's context comes with its handler
func (s *server) serve(hs *http.Server, nc net.Conn, state *tls.ConnectionState, h http.Handler, sawPreface bool) {
	ctx := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok { // how net/http passes it on
		ctx = b.BaseContext()
	}
	c := newConn(ctx, hs, nc, h, s.hooks)
	c.tls = state
	if in, ok := nc.(carrier); ok {
		in.Carries(c.isBlocked, c.leave)
	}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	hurry := s.hurry
	s.mu.Unlock()
	if hurry {
		c.shutdown(EndShutdown, true)
	}
	c.serve(sawPreface)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// shutdown sends a goodbye on every connection. hurry: net/http waits for their ends.
// Otherwise nothing does, and later connections get no goodbye: their clients would only
// open another one at once.
func (s *server) shutdown(hurry bool) {
	s.mu.Lock()
	s.hurry = s.hurry || hurry
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.shutdown(EndShutdown, hurry)
	}
}
