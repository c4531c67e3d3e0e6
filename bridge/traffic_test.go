package bridge

import (
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestTrafficCountsRunningAndEndedCalls, by listener and transport. No count falls when a
// call ends.
func TestTrafficCountsRunningAndEndedCalls(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	near := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "near"})
	ctx := within(t, patience)
	stream := open(ctx, t, dial(t, near), testMethod)
	for range 3 {
		var reply []byte
		if err := stream.SendMsg(pattern(100)); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&reply); err != nil {
			t.Fatal(err)
		}
	}
	want := []Traffic{{Listener: "near", Transport: "grpc", In: Flow{Messages: 3, Bytes: 300}, Out: Flow{Messages: 3, Bytes: 300}}}
	counts := func(n Snapshot) bool { return slices.Equal(n.Traffic, want) }
	wantSnapshot(t, s, "while the call runs", counts)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wantSnapshot(t, s, "after its end", func(n Snapshot) bool { return len(n.Calls) == 0 && counts(n) })
}

// TestBlockedDirectionsAreCounted: a client that reads nothing blocks the messages to it,
// and an echo then those from it.
func TestBlockedDirectionsAreCounted(t *testing.T) {
	flood := func(ss grpc.ServerStream) error {
		for {
			if err := ss.SendMsg(pattern(64 << 10)); err != nil {
				return err
			}
		}
	}
	blocked := func(s *Server, transport string, both bool) {
		t.Helper()
		wantSnapshot(t, s, "with a client that reads nothing", func(n Snapshot) bool {
			return slices.ContainsFunc(n.Traffic, func(f Traffic) bool {
				return f.Transport == transport && f.Out.Blocked > 0 && (f.In.Blocked > 0) == both
			})
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
		stream := open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for stream.SendMsg(pattern(64<<10)) == nil {
			}
		}()
		blocked(s, "grpc", true)
		_ = s.Close()
		await(t, "the end of the upload", sent)
	})
	t.Run("HTTP/1.1", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, flood)}})
		request := "POST " + testMethod + " HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web\r\ncontent-length: 5\r\n\r\n\x00\x00\x00\x00\x00"
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", serve(t, s))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }() // the end of the test
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		blocked(s, "grpc-web", false)
	})
	t.Run("WebSocket", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, flood)}})
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", serve(t, s))
		if err != nil {
			t.Fatal(err)
		}
		ws := wstest.Open(t, c, testMethod, "grpc-websockets")
		defer func() { _ = ws.Close() }() // the end of the test
		header := strings.NewReplacer("\n", "\r\n").Replace("content-type: application/grpc-web\n\n")
		if _, err := ws.Write(wstest.Masked(wstest.Binary, []byte(header))); err != nil {
			t.Fatal(err)
		}
		blocked(s, "grpc-websockets", false)
	})
}

// TestQuickMessagesAreNotBlocked: a stream that is busy all the time, but never waits,
// isn't blocked.
func TestQuickMessagesAreNotBlocked(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	stream := open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
	for looks := s.registry.now() + 3; s.registry.now() < looks; {
		var reply []byte
		if err := stream.SendMsg(pattern(100)); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&reply); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range s.Snapshot().Traffic {
		if f.In.Blocked != 0 || f.Out.Blocked != 0 {
			t.Errorf("ping-pong counts as blocked: %+v", f)
		}
	}
}
