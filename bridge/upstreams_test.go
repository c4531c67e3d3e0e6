package bridge

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// replaceBackend has new calls of the Server go to the address.
func replaceBackend(t testing.TB, s *Server, address string) {
	t.Helper()
	u, err := upstream.New(Backend{Target: address}, report.SizeLimit{Bytes: DefaultLimits().MessageBytes, Key: report.KeyMessageBytes}, DefaultLimits().HeaderBytes, s.account, s.panics)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.upstreams.Put(DefaultBackend, u); err != nil {
		t.Fatal(err)
	}
}

// wantNoHolders waits for the calls under way: none may still hold the upstream.
func wantNoHolders(t testing.TB, s *Server) {
	t.Helper()
	if err := s.registry.wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if got := s.upstreams.States(); len(got) != 1 || got[0].Calls != 0 {
		t.Errorf("after the last call: %+v, want one upstream that no call holds", got)
	}
}

// TestBackendReplacedUnderLoad: no call of a client fails, and a stream that was
// open ends where it began.
func TestBackendReplacedUnderLoad(t *testing.T) {
	const callers, replacements = 4, 10
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	cc := dial(t, serve(t, s))
	stream := open(within(t, 2*patience), t, cc, testMethod)
	sayAndHear := func(word string) {
		t.Helper()
		var m []byte
		if err := stream.SendMsg([]byte(word)); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&m); err != nil || string(m) != word {
			t.Errorf("the stream to the first backend has %q, %v; want %q", m, err, word)
		}
	}
	sayAndHear("are you there?")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := unary(t.Context(), cc, testMethod); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range replacements {
		replaceBackend(t, s, startBackend(t, echo))
		for range callers {
			if err := unary(within(t, patience), cc, testMethod); err != nil {
				t.Error(err)
			}
		}
	}
	stop()
	running.Wait()
	sayAndHear("still there?")
	_ = stream.CloseSend() // the status comes from RecvMsg
	if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream to the first backend ends with %v", err)
	}
	wantNoHolders(t, s)
}

// TestCallsReleaseTheirUpstream, however they end.
func TestCallsReleaseTheirUpstream(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}, DenyMethods: []string{"denied.Service/*"}})
	cc := dial(t, serve(t, s))
	if err := unary(within(t, patience), cc, "/denied.Service/Method"); status.Code(err) != codes.Unimplemented {
		t.Errorf("a denied method: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream := open(ctx, t, cc, testMethod)
	if err := stream.SendMsg([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = stream.RecvMsg(new([]byte)) // the cancellation
	down := listen(t, "127.0.0.1:0")
	_ = down.Close() // its port refuses now
	replaceBackend(t, s, down.Addr().String())
	if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.Unavailable {
		t.Errorf("with the backend down: %v", err)
	}
	wantNoHolders(t, s)
	if err := s.upstreams.Remove(DefaultBackend, s.upstreams.Get(DefaultBackend)); err != nil {
		t.Fatal(err)
	}
	if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.Unavailable {
		t.Errorf("with the upstream removed: %v", err)
	}
	if _, _, err := s.Services(within(t, patience), DefaultBackend); err == nil {
		t.Error("an upstream that was removed has services")
	}
}
