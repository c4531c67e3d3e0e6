package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestImproves: once a better way delivers, new calls take it, and those that run stay where they
// are, until their own end.
func TestImproves(t *testing.T) {
	e := startEdge(t, parts.Echo)
	e.http1.Store(true)
	often := func(d *Dialer) error { d.o.improveAfter = 10 * time.Millisecond; return nil }
	c := e.connect(t, often)
	s, err := c.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
	if err != nil {
		t.Fatal(err)
	}
	echo := func() {
		t.Helper()
		var came []byte
		if err := s.SendMsg([]byte("x")); err != nil && !errors.Is(err, io.EOF) { // RecvMsg tells
			t.Fatal(err)
		}
		if err := s.RecvMsg(&came); err != nil || string(came) != "x" {
			t.Fatalf("%q, %v, by %+v", came, err, c.Status())
		}
	}
	echo()
	if way := c.Way(); way != WebSocket {
		t.Fatalf("by %s, want %s", way, WebSocket)
	}
	e.http1.Store(false)
	parts.Poll(t, func() string {
		echo()
		if err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("y"), new([]byte)); err != nil {
			t.Fatal(err)
		}
		if way := c.Way(); way != GRPC {
			return fmt.Sprintf("new calls go by %s", way)
		}
		return ""
	})
	for range 3 {
		echo()
	}
	if err := s.CloseSend(); err != nil {
		t.Error(err)
	}
	if err := s.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
}

// TestImprovingEnds with the connection, also where a better way hangs: DialOptions has no Close.
func TestImprovingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := parts.Places{}
		ln := places.Listen(t, "edge.example.com:80") // nobody answers
		defer ln.Close()
		d := inMemory(t, places)
		near, far := net.Pipe()
		defer far.Close()
		c := newConn(near, WebSocket, nil)
		var work sync.WaitGroup
		work.Go(func() { d.improve(c) })
		parts.Elapse(d.o.improveAfter + time.Second)
		began := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		work.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("it went on for %v", took)
		}
	})
}
