package bridge

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

// TestHeldConns: each connection has its protocol and its own calls, also those inside a
// tunnel, and is gone after its end.
func TestHeldConns(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}})
	near := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "near"})
	native, tunnel := dial(t, near), dialTunnel(t, near, http.Header{})
	for _, cc := range []*grpc.ClientConn{native, native, tunnel} {
		open(within(t, patience), t, cc, testMethod)
	}
	silent, err := net.Dial("tcp", near)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	want := func(what string, wanted ...string) {
		t.Helper()
		poll(t, func() string {
			all := heldConns(s, 10)
			var got []string
			for i, c := range all {
				got = append(got, fmt.Sprintf("%s %d", c.Transport, c.Calls))
				if c.Peer == "" || c.Listener != "near" || c.HeldBytes < ConnBytes || i > 0 && c.HeldBytes > all[i-1].HeldBytes {
					return fmt.Sprintf("%s: %+v", what, all)
				}
			}
			if slices.Sort(got); !slices.Equal(got, wanted) {
				return fmt.Sprintf("%s: got %q, want %q", what, got, wanted)
			}
			return ""
		})
	}
	want("all", " 0", "h2 2", "websocket 1")
	if first := heldConns(s, 1); len(first) != 1 {
		t.Errorf("one is asked for: got %+v", first)
	}
	if none := heldConns(s, 0); len(none) != 0 {
		t.Errorf("none is asked for: got %+v", none)
	}
	_ = silent.Close()
	want("after the end of one", "h2 2", "websocket 1")
}

// TestHeaderOfATunnelCounts as long as the tunnel is open, which keeps it for the calls inside.
func TestHeaderOfATunnelCounts(t *testing.T) {
	const large = 40 << 10
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	address := serve(t, s)
	tunnel := dialTunnel(t, address, http.Header{"X-Large": {strings.Repeat("x", large)}})
	if err := unary(within(t, patience), tunnel, testMethod); err != nil {
		t.Fatal(err)
	}
	if all := heldConns(s, 1); len(all) != 1 || all[0].HeldBytes < ConnBytes+large {
		t.Errorf("got %+v, want one that holds its header of %d bytes", all, large)
	}
	if err := tunnel.Close(); err != nil {
		t.Error(err)
	}
	poll(t, func() string {
		if all := heldConns(s, 1); len(all) != 0 {
			return fmt.Sprintf("after its end: %+v", all)
		}
		return ""
	})
}
