package upstream

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestFlowsFindTheirStreams: what comes counts with the call that it is for, among many
// calls on one connection of which some are cancelled at any moment.
func TestFlowsFindTheirStreams(t *testing.T) {
	const rounds, calls = 20, 50
	a := memory.New(64<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, sendTwice)}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for range rounds {
		var all sync.WaitGroup
		for n := range calls {
			all.Go(func() {
				flowOf(t, up, a, fmt.Sprintf("%016x", rand.Uint64()), (n%5)*(n%5)*700, 100+n*300, n%4 == 3)
			})
		}
		all.Wait()
	}
	if used := a.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// sendTwice sends two messages of the size that is the method's name.
func sendTwice(ss grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(ss)
	size, err := strconv.Atoi(path.Base(name))
	if err != nil {
		return err
	}
	for range 2 {
		if err := ss.SendMsg(make([]byte, size)); err != nil {
			return err
		}
	}
	return nil
}

// TestFlowsOfOneID: a client may give all its calls one id, and metadata of many frames,
// and what comes for them counts all the same.
func TestFlowsOfOneID(t *testing.T) {
	a := memory.New(16<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, sendTwice)}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for range 10 {
		flowOf(t, up, a, "the same", 40_000, 5000, false)
	}
	var all sync.WaitGroup // at the same time
	for n := range 100 {
		all.Go(func() { flowOf(t, up, a, "the same", n%3*20_000, 100+n*300, n%4 == 3) })
	}
	all.Wait()
	if used := a.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// flowOf makes a call with two replies of the size, or cancels it.
func flowOf(t *testing.T, up *Upstream, a *memory.Account, id string, metadataBytes, size int, cancelled bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	defer held.Settle()
	call, err := openCall(ctx, up, Request{Method: fmt.Sprintf("/test.Sizes/%d", size), Metadata: metadata.Pairs("x-request-id", id, "also", "the same", "much", strings.Repeat("m", metadataBytes)), Held: held, ID: id})
	if err != nil {
		t.Error(err)
		return
	}
	call.CloseSend()
	if cancelled {
		if rand.IntN(2) == 0 {
			_, _ = call.Header()
		}
		return
	}
	for n := range 2 {
		m, err := call.Recv()
		if err != nil {
			t.Errorf("message %d of %d bytes: %v", n, size, err)
			return
		}
		m.Free()
	}
	if _, err := call.Recv(); err != io.EOF { //nolint:errorlint // it is never wrapped
		t.Errorf("the end is %v", err)
	}
	if got, want := held.Messages(), int64(2*(size+prefixBytes)); got != want {
		t.Errorf("with two replies of %d bytes %d count with the call, want %d", size, got, want)
	}
	call.Sent(1, size)
	call.Sent(1, size)
	if got := held.Messages(); got != 0 {
		t.Errorf("once they are sent on %d bytes count with the call", got)
	}
}

// TestQueuedRequestsCount: small requests to a handler that doesn't read count with their
// call until they are on their way, with what grpc-go takes for each.
func TestQueuedRequestsCount(t *testing.T) {
	read := make(chan struct{})
	a := memory.New(256<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		<-read
		for {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return nil //nolint:nilerr // the client's end
			}
		}
	})}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	call, err := openCall(ctx, up, Request{Method: "/test.Silent/Get", Metadata: metadata.Pairs("x-request-id", "one"), Held: held, ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	const messages = 30_000
	var sending sync.WaitGroup
	sending.Go(func() {
		for range messages {
			if err := call.Send(mem.BufferSlice{mem.SliceBuffer("x")}); err != nil {
				t.Error(err)
				return
			}
		}
		call.CloseSend()
	})
	poll(t, func() string {
		if n := held.Messages(); n < 5_000*queuedBytes {
			return fmt.Sprintf("%d bytes count with a call whose messages nobody reads", n)
		}
		return ""
	})
	close(read)
	sending.Wait()
	wantAllSent(t, call, held)
}

// TestPackedRequestsCount: what grpc-go has compressed for a handler that doesn't read
// counts with its call.
func TestPackedRequestsCount(t *testing.T) {
	const size = 1 << 20
	read := make(chan struct{})
	a := memory.New(256<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		<-read
		return ss.RecvMsg(new([]byte))
	})}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	call, err := openCall(ctx, up, Request{Method: "/test.Silent/Get", Metadata: metadata.Pairs("x-request-id", "one"), Coding: "gzip", Held: held, ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() string {
		if !call.call.OnWire().IsWritten() {
			return "its stream isn't known"
		}
		return ""
	})
	noise := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(noise) //nolint:errcheck // it has none
	if err := call.Send(mem.BufferSlice{mem.SliceBuffer(noise)}); err != nil {
		t.Fatal(err)
	}
	// The backend's windows may have taken some of it.
	if got := held.Messages(); got < size-128<<10 || got > size+size/10 {
		t.Errorf("%d bytes count with a call that has a compressed message of %d bytes queued", got, size)
	}
	close(read)
	call.CloseSend()
	wantAllSent(t, call, held)
}

// wantAllSent holds that a call ends well once the backend has read all, and that nothing
// counts then.
func wantAllSent(t *testing.T, call *Stream, held *memory.Entry) {
	t.Helper()
	if _, err := call.Recv(); err != io.EOF { //nolint:errorlint // it is never wrapped
		t.Errorf("the end is %v", err)
	}
	if got := held.Messages(); got != 0 {
		t.Errorf("once all was sent, %d bytes count", got)
	}
}

// TestPackedRepliesCountAsTheyCame: a compressed reply that is handed out takes no other
// one's bytes off the count.
func TestPackedRepliesCountAsTheyCame(t *testing.T) {
	const size = 100_000 // it becomes a few hundred bytes
	a := memory.New(64<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		if err := grpc.SetSendCompressor(ss.Context(), "gzip"); err != nil {
			return err
		}
		for range 3 {
			if err := ss.SendMsg(make([]byte, size)); err != nil {
				return err
			}
		}
		return nil
	})}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	call, err := openCall(ctx, up, Request{Method: "/test.Packed/Get", Metadata: metadata.Pairs("x-request-id", "one"), Held: held, ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	call.CloseSend()
	poll(t, func() string {
		if !call.call.OnWire().Trailed() {
			return "the replies haven't come"
		}
		return ""
	})
	all := held.Messages()
	for left := int64(2); left >= 0; left-- {
		m, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.Len() != size || call.Wire() >= size/10 {
			t.Errorf("a reply of %d bytes that came as %d, want %d and much less", m.Len(), call.Wire(), size)
		}
		m.Free()
		call.Sent(1, call.Wire())
		if got, want := held.Messages(), all*left/3; got != want {
			t.Errorf("with %d of 3 replies left %d bytes count, want %d", left, got, want)
		}
	}
}
