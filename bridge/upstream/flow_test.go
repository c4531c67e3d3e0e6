package upstream

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/memory"
)

// TestFlowsFindTheirStreams: what comes counts with the call that it is for, among many
// calls on one connection of which some are cancelled at any moment.
func TestFlowsFindTheirStreams(t *testing.T) {
	const rounds, calls = 20, 50
	a := memory.New(64<<20, 0)
	up, err := New(Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
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
	})}, largeMessages, testHeaderBytes, a)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for range rounds {
		var all sync.WaitGroup
		for n := range calls {
			all.Go(func() { flowOf(t, up, a, 100+n*300, n%4 == 3) })
		}
		all.Wait()
	}
	if used := a.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// flowOf makes a call with two replies of the size, or cancels it.
func flowOf(t *testing.T, up *Upstream, a *memory.Account, size int, cancelled bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	id := fmt.Sprintf("%016x", rand.Uint64())
	defer held.Settle()
	call, err := openCall(ctx, up, Request{Method: fmt.Sprintf("/test.Sizes/%d", size), Metadata: metadata.Pairs("x-request-id", id, "also", "the same"), Held: held, ID: id})
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
	up, err := New(Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		<-read
		for {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return nil //nolint:nilerr // the client's end
			}
		}
	})}, largeMessages, testHeaderBytes, a)
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
	if _, err := call.Recv(); err != io.EOF { //nolint:errorlint // it is never wrapped
		t.Errorf("the end is %v", err)
	}
	if got := held.Messages(); got != 0 {
		t.Errorf("once all were sent, %d bytes count", got)
	}
}
