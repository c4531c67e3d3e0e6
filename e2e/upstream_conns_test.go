package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// holdMany opens n calls, each of them known to the backend, on as few
// connections as culvert lets carry them.
func holdMany(t testing.TB, b *backend, c *culvert, transport wire.Transport, n int) (calls []*call) {
	t.Helper()
	var conn *wire.Conn
	for i := range n {
		if i%100 == 0 || !transport.Multiplexed() {
			conn = dial(t, transport, c.address)
		}
		calls = append(calls, open(t, conn, wire.Bidi, probe.Script{Echo: true}))
	}
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	return calls
}

// connections returns how many the backend has.
func (b *backend) connections(t testing.TB) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := b.control.Connections(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A backend that takes few calls on a connection gets more connections: all
// calls run at once, and when they have ended one connection is left.
func TestMoreCallsThanAConnectionTakes(t *testing.T) {
	t.Parallel()
	for _, n := range []struct{ streams, calls, connections int }{{100, 250, 3}, {3, 100, 34}} {
		t.Run(fmt.Sprintf("%d_of_%d", n.calls, n.streams), func(t *testing.T) {
			t.Parallel()
			b := startBackend(t, backendOptions{streams: n.streams})
			c := startCulvert(t, b.address, culvertOptions{})
			c.logged(t, "services") // asking for them takes a place
			calls := holdMany(t, b, c, wire.GRPC, n.streams)
			if got := b.connections(t); got != 1 {
				t.Errorf("%d connections for %d calls, want 1", got, n.streams)
			}
			calls = append(calls, holdMany(t, b, c, wire.Web, 50)...) // a WebSocket that isn't read answers no pings
			calls = append(calls, holdMany(t, b, c, wire.GRPC, n.calls-len(calls))...)
			if got := b.connections(t); got != n.connections {
				t.Errorf("%d connections for %d calls, want %d", got, len(calls), n.connections)
			}
			for i, call := range calls {
				if err := call.Send(wire.Request(0, 16)); err != nil {
					t.Fatal(err)
				}
				if _, err := wire.RecvReply(call, 0); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			}
			for _, call := range calls {
				call.Close()
			}
			began := time.Now()
			if err := eventually(patience, func() error {
				if got := b.connections(t); got != 1 {
					return fmt.Errorf("%d connections are left, want 1", got)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			t.Logf("the spare connections were closed after %v", time.Since(began).Round(time.Second))
			if err := works(t, wire.GRPC, c.address, 20*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

// A restart of the backend under several connections: the calls end, and as
// many as before run again.
func TestBackendRestartsUnderSeveralConnections(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{streams: 10, listen: "127.0.0.34:0"}) // nobody else listens there while it is away
	c := startCulvert(t, b.address, culvertOptions{})
	calls := holdMany(t, b, c, wire.GRPC, 45)
	ends := finishing(calls)
	b.kill(t)
	for i, e := range await(t, ends, patience, "the ends of the calls") {
		if !e.is(codes.Unavailable, "UPSTREAM_RESET") {
			t.Errorf("call %d: %v, want UNAVAILABLE with UPSTREAM_RESET", i, e)
		}
	}
	b.restart(t)
	if err := eventually(patience, func() error { return works(t, wire.GRPC, c.address, 20*time.Second) }); err != nil {
		t.Fatal(err)
	}
	holdMany(t, b, c, wire.GRPC, 45)
	if got := b.connections(t); got != 5 {
		t.Errorf("%d connections for 45 calls, want 5", got)
	}
}

// Calls that wait for a place end with the deadline of the call, else with the
// time for it and the keys to change.
func TestBoundsOfTheQueue(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{streams: 3})
	c := startCulvert(t, b.address, culvertOptions{config: "backend:\n  max_connections: 2\n  queue_timeout: 8s\n"}) // the default is 5 s
	holdMany(t, b, c, wire.GRPC, 6)
	for _, transport := range wire.All {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			for _, timeout := range []string{"", "300m"} {
				md := wire.Metadata(newID(t), probe.Script{})
				if timeout != "" {
					md["grpc-timeout"] = []string{timeout}
				}
				client := dial(t, transport, c.address)
				began := time.Now()
				call, err := client.Post(context.Background(), wire.Unary, md, wire.Request(0, 0))
				if err != nil {
					t.Fatal(err)
				}
				e := finish(call, 0)
				took := time.Since(began)
				call.Close()
				if timeout != "" {
					if !e.is(codes.DeadlineExceeded, "DEADLINE_EXCEEDED") || took > cutIsSeen {
						t.Errorf("a deadline of 300 ms: %v after %v", e, took)
					}
					continue
				}
				if !e.is(codes.Unavailable, "OVERLOADED") || took < 7900*time.Millisecond {
					t.Fatalf("%v after %v, want UNAVAILABLE with OVERLOADED after 8 s", e, took)
				}
				limit := wire.Info(e.status.Details).GetMetadata()["limit"]
				if limit != "backend.max_connections" || !strings.Contains(e.status.Message, "(backend.max_connections)") || !strings.Contains(e.status.Message, "(backend.queue_timeout)") {
					t.Errorf("%v with the limit %q doesn't name the keys", e, limit)
				}
			}
		})
	}
}
