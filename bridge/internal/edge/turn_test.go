package edge

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A pageConn is a connection to a server of pages.
type pageConn struct {
	net.Conn
	r *bufio.Reader
}

func dialPages(t *testing.T, address string) *pageConn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })         // the test may have
	_ = c.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	return &pageConn{c, bufio.NewReader(c)}
}

// served returns the name of the server that answers, or "" if the connection ends.
func (c *pageConn) served(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(c, getPage); err != nil {
		return ""
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return ""
	}
	page, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return string(page)
}

// namedServer answers with its name.
func namedServer(e *Edge, name string) *Server {
	s := pageServer(e, e.own, time.Minute)
	s.HTTP.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.Of(r).BeginRequest(w, r)
		_, _ = io.WriteString(w, name) // to a client that is there
	})
	return s
}

// TestServersInTurn: each connection has the server that was current when it was
// accepted, to its end. A server that is over is forgotten with its last connection.
func TestServersInTurn(t *testing.T) {
	e := testEdge(t, Options{})
	var now atomic.Pointer[Server]
	now.Store(namedServer(e, "a"))
	ln := listen(t, "127.0.0.1:0")
	served := make(chan error, 1)
	go func() { served <- e.Serve(ln, e.own, func(*Server) *Server { return now.Load() }) }() // ends below
	var conns []*pageConn
	for i, name := range []string{"a", "b", "c", "d"} {
		if i > 0 {
			now.Store(namedServer(e, name))
		}
		for range 2 {
			c := dialPages(t, ln.Addr().String())
			if got := c.served(t); got != name {
				t.Fatalf("a connection accepted in the turn of %s is served by %q", name, got)
			}
			conns = append(conns, c)
		}
	}
	for i, c := range conns {
		if got, want := c.served(t), string(rune('a'+i/2)); got != want {
			t.Errorf("connection %d, which %s accepted, is served by %q", i, want, got)
		}
	}
	if n := e.Servers(); n != 4 {
		t.Errorf("%d servers are known, want all 4 that have connections", n)
	}
	if got := e.Tally(); len(got) != 1 || got[0].Open != len(conns) {
		t.Errorf("the tally is %v, want %d connections of one listener", got, len(conns))
	}
	for _, c := range conns[1:] {
		_ = c.Close() // the server sees it
	}
	poll(t, func() string {
		if n := e.Servers(); n != 2 {
			return "servers are kept that are over and have no connections"
		}
		return ""
	})
	if got := conns[0].served(t); got != "a" {
		t.Errorf("the connection that is left is served by %q", got)
	}
	for _, hs := range e.TakeServers() {
		_ = hs.Close() // only listeners' errors
	}
	if err := await(t, "the end of Serve", served); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if got := conns[0].served(t); got != "" {
		t.Errorf("after the end of all servers %q serves", got)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener isn't closed: %v", err)
	}
}

// TestNoTurnAfterTheEnd: a connection that is accepted when the servers are taken, and
// would have another one, is closed, and the listener, too.
func TestNoTurnAfterTheEnd(t *testing.T) {
	e := testEdge(t, Options{})
	first := namedServer(e, "a")
	ln := listen(t, "127.0.0.1:0")
	var taken []*http.Server
	var once sync.Once
	served := make(chan error, 1)
	go func() {
		served <- e.Serve(ln, e.own, func(before *Server) *Server { // ends with the second server
			if before == nil {
				return first
			}
			once.Do(func() { taken = e.TakeServers() })
			return namedServer(e, "b")
		})
	}()
	if got := dialPages(t, ln.Addr().String()).served(t); got != "" {
		t.Errorf("%q serves a connection after the end", got)
	}
	if err := await(t, "the end of Serve", served); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if len(taken) != 1 || taken[0] != first.HTTP {
		t.Errorf("%d servers are taken, want the first", len(taken))
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener isn't closed: %v", err)
	}
	_ = first.HTTP.Close() // it has no connections
}

// TestTurnsInADrain: while the kernel's queue is emptied, a connection from it may still
// get another server.
func TestTurnsInADrain(t *testing.T) {
	var draining atomic.Bool
	e := testEdge(t, Options{Draining: draining.Load, Leaving: func() bool { return false }})
	first, next := namedServer(e, "a"), namedServer(e, "b")
	ln := listen(t, "127.0.0.1:0")
	served := make(chan error, 1)
	go func() {
		served <- e.Serve(ln, e.own, func(before *Server) *Server { // ends with the listener
			if before == nil {
				return first
			}
			draining.Store(true)
			return next
		})
	}()
	if got := dialPages(t, ln.Addr().String()).served(t); got != "b" {
		t.Errorf("a connection out of the queue is served by %q", got)
	}
	e.CloseListeners(t.Context())
	if err := await(t, "the end of Serve", served); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	for _, hs := range e.TakeServers() {
		_ = hs.Close() // only listeners' errors
	}
}

// TestAListenerAlwaysHasAServer: CloseListeners finds the listener at any moment, also
// while one server follows another that has no connections.
func TestAListenerAlwaysHasAServer(t *testing.T) {
	e := testEdge(t, Options{})
	ln := listen(t, "127.0.0.1:0")
	begun := make(chan struct{})
	served := make(chan error, 1)
	go func() { // ends below
		served <- e.Serve(ln, e.own, func(before *Server) *Server {
			if before == nil {
				defer close(begun)
			}
			return namedServer(e, "next")
		})
	}()
	await(t, "the first server", begun)
	poll(t, func() string {
		if e.Servers() == 0 {
			return "no server is known"
		}
		return ""
	})
	var missed atomic.Int64
	over := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				if len(e.listeners()) != 1 {
					missed.Add(1)
				}
			}
		}
	})
	for range 1000 {
		c := dialPages(t, ln.Addr().String())
		if got := c.served(t); got != "next" {
			t.Fatalf("a connection is served by %q", got)
		}
		_ = c.Close() // the server sees it
	}
	close(over)
	looking.Wait()
	if n := missed.Load(); n > 0 {
		t.Errorf("in 1000 turns the listener had no server %d times", n)
	}
	for _, hs := range e.TakeServers() {
		_ = hs.Close() // only listeners' errors
	}
	if err := await(t, "the end of Serve", served); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
}
