package sockets

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestWhoHoldsPlacesKeepsNobodyOut: a CA that comes to a port full of silent
// connections is accepted, and the oldest of these ends.
func TestWhoHoldsPlacesKeepsNobodyOut(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &newest{Listener: ln, most: 2}
	defer func() { _ = l.Close() }() // the test is over
	var clients, accepted []net.Conn
	for range 4 {
		client, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }() // the test is over
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }() // the test is over
		clients, accepted = append(clients, client), append(accepted, c)
	}
	for i, client := range clients {
		if i < 2 {
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("connection %d reads %v, want its end", i, err)
			}
			continue
		}
		_ = client.SetReadDeadline(time.Now()) // it is open
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d reads %v, want nothing yet", i, err)
		}
	}
	_, _ = accepted[3].Close(), accepted[3].Close() // one gives its place back, once
	if got := l.open.Len(); got != 1 {
		t.Errorf("%d places are taken, want 1", got)
	}
}
