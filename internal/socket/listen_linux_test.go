package socket

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestQueueOfAListener is looked at without accepting, and is emptied also
// where no more arrive.
func TestQueueOfAListener(t *testing.T) {
	ln := parts.Listen(t, "127.0.0.1:0")
	if !QueueEmpty(ln) {
		t.Error("a new listener's queue isn't empty")
	}
	var d net.Dialer
	early, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	poll(t, func() string { // the kernel may end the handshake later
		if QueueEmpty(ln) {
			return "a connection that nobody accepted isn't in the queue"
		}
		return ""
	})
	if RefuseArrivals(ln) { // a kernel may have no filters
		late, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if c, err := d.DialContext(late, "tcp", ln.Addr().String()); err == nil {
			_ = c.Close()
			t.Error("a connection came in where none should")
		}
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatalf("the connection that was in the queue: %v", err)
	}
	_ = c.Close()
	if !QueueEmpty(ln) {
		t.Error("an emptied queue isn't empty")
	}
}

// TestListenerThatIsNoSocketOfTCP has no queue that could be looked at.
func TestListenerThatIsNoSocketOfTCP(t *testing.T) {
	ln := struct{ net.Listener }{parts.Listen(t, "127.0.0.1:0")}
	if RefuseArrivals(ln) || !QueueEmpty(ln) {
		t.Error("a listener was looked at that isn't TCP's")
	}
}

func TestDescriptorsAreBelowTheirLimit(t *testing.T) {
	server, client := tcpPair(t)
	a, b := Descriptor(wrapper{server}), Descriptor(client)
	if a == b || min(a, b) <= 2 || max(a, b) >= DescriptorLimit() {
		t.Errorf("two connections have the descriptors %d and %d of %d", a, b, DescriptorLimit())
	}
	_ = server.Close()
	if n := Descriptor(server); n != 0 {
		t.Errorf("a closed connection has the descriptor %d", n)
	}
}
