package edge

import (
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestNothingServesAfterTheEnd: once the servers are taken, or a drain has begun, Serve
// takes no listener and closes it. In a drain, tunnels still come.
func TestNothingServesAfterTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		taken, draining bool
		tunnels         bool // are served
	}{
		"the servers are taken": {taken: true},
		"a drain has begun":     {draining: true, tunnels: true},
	} {
		var draining atomic.Bool
		e := testEdge(t, Options{Draining: draining.Load})
		draining.Store(c.draining)
		if c.taken {
			e.TakeServers()
		}
		for what, serve := range map[string]func(net.Listener, *Server) error{
			"a listener": func(ln net.Listener, s *Server) error { return e.Serve(ln, e.own, s) },
			"tunnels":    e.ServeTunnels,
		} {
			ln, s := listen(t, "127.0.0.1:0"), pageServer(e, e.own, time.Minute)
			served := make(chan error, 1)
			go func() { served <- serve(ln, s) }() // ends at once, or with s
			if what == "tunnels" && c.tunnels {
				exchange(t, ln.Addr().String(), getPage) // they are served
				_ = s.HTTP.Close()                       // only the listener's error
			}
			if err := await(t, "the end of Serve", served); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("%s, %s: Serve returned %v", name, what, err)
			}
			if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s, %s: the listener isn't closed: %v", name, what, err)
			}
		}
	}
}
