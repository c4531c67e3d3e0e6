package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/connectivity"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// wantSnapshot waits until a snapshot is as wanted: the end of a connection is
// told to nobody when the counts have it.
func wantSnapshot(t testing.TB, s *Server, what string, as func(Snapshot) bool) {
	t.Helper()
	poll(t, func() string {
		if now := s.Snapshot(); !as(now) {
			return fmt.Sprintf("%s: %+v", what, now)
		}
		return ""
	})
}

// TestSnapshot: what is under way, by listener and transport, and nothing when
// that has ended.
func TestSnapshot(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	near := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "near"})
	far := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "far"})
	ctx := within(t, patience)

	native := dial(t, near)
	tunnel := dialTunnel(t, far, nil)
	for range 2 {
		open(ctx, t, native, testMethod)
	}
	stuck := open(ctx, t, tunnel, testMethod)
	ws, _, err := websocket.Dial(ctx, "ws://"+near+testMethod, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}})
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, far, "GET / HTTP/1.1\r\nhost: a\r\n\r\n") // it closes
	var d net.Dialer
	mute, err := d.DialContext(ctx, "tcp", far)
	if err != nil {
		t.Fatal(err)
	}
	calls := []CallCount{{"far", "h2ts+grpc", 1}, {"near", "grpc", 2}, {"near", "grpc-websockets", 1}}
	connections := []report.Connections{{Listener: "far", Transport: "", Open: 1}, {Listener: "far", Transport: "websocket", Open: 1, Tunnels: 1}, {Listener: "near", Transport: "h2", Open: 1}, {Listener: "near", Transport: "websocket", Open: 1}}
	wantSnapshot(t, s, "with calls", func(n Snapshot) bool {
		return slices.Equal(n.Calls, calls) && slices.Equal(n.Connections, connections) && len(n.Upstreams) == 1 &&
			n.Upstreams[0].Conns == connectivity.Ready && n.Upstreams[0].Calls >= 3 && n.HeldBytes == 0 && n.HeldLimit > 0 && !n.Draining
	})

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for stuck.SendMsg(pattern(64<<10)) == nil { // nobody reads the echo
		}
	}()
	wantSnapshot(t, s, "with a call that is stuck", func(n Snapshot) bool { return n.HeldBytes > 0 })

	_ = ws.CloseNow() // gone without a word
	_ = mute.Close()
	_ = native.Close()
	_ = tunnel.Close()
	await(t, "the end of the upload", sent)
	wantSnapshot(t, s, "after the last", func(n Snapshot) bool {
		return len(n.Calls) == 0 && len(n.Connections) == 0 && n.HeldBytes == 0 && n.Upstreams[0].Calls == 0
	})
}

// TestSnapshotOfAForeignServer: connections that Serve didn't accept are counted,
// without what their clients speak, and the counts come back to nothing.
func TestSnapshotOfAForeignServer(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	hs := &http.Server{ReadHeaderTimeout: patience}
	s.ConfigureHTTP(hs)
	ln := listen(t, "127.0.0.1:0")
	served := make(chan error, 1)
	go func() { served <- hs.Serve(ln) }()
	cc := dial(t, ln.Addr().String())
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Fatal(err)
	}
	want := []report.Connections{{Open: 1}}
	wantSnapshot(t, s, "with a connection", func(n Snapshot) bool { return slices.Equal(n.Connections, want) })
	_ = cc.Close()
	wantSnapshot(t, s, "after it", func(n Snapshot) bool { return len(n.Connections) == 0 })
	_ = hs.Close()
	if err := await(t, "the server's end", served); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve returned %v, want %v", err, http.ErrServerClosed)
	}
}
