package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// largeMessages is more than any reply here has.
var largeMessages = report.SizeLimit{Bytes: 16 << 20, Key: report.KeyMessageBytes}

// serveLarge runs a real backend that answers every call with one message of
// the size, and returns what New needs to reach it.
func serveLarge(t *testing.T, size int) report.Backend {
	t.Helper()
	reply := make([]byte, size)
	return report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error { return ss.SendMsg(reply) })}
}

// TestLargeRepliesStayWithinTheBudget opens many calls whose replies together
// are far over the budget and whose callers read slowly: the backend may send
// only what there is room for, and every reply comes whole all the same.
func TestLargeRepliesStayWithinTheBudget(t *testing.T) {
	const size, calls = 4 << 20, 32
	const budget = 16 << 20
	b := memory.New(budget, 0)
	up, err := New(serveLarge(t, size), largeMessages, testHeaderBytes, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()

	var most int64
	var mu sync.Mutex
	turn := make(chan struct{}, 1) // one at a time takes its reply
	var all sync.WaitGroup
	for n := range calls {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			held, id := b.NewEntry(), strconv.Itoa(n)
			defer held.Settle()
			call, err := openCall(ctx, up, Request{Method: "/test.Large/Get", Metadata: metadata.Pairs("x-request-id", id), Held: held, ID: id})
			if err != nil {
				t.Error(err)
				return
			}
			call.CloseSend()
			m, err := call.Recv()
			if err != nil {
				t.Error(err)
				return
			}
			turn <- struct{}{}
			mu.Lock()
			most = max(most, b.Used())
			mu.Unlock()
			if m.Len() != size {
				t.Errorf("a reply of %d bytes, want %d", m.Len(), size)
			}
			m.Free()
			call.Sent(1, size)
			<-turn
			if _, err := call.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("the end is %v, want io.EOF", err)
			}
		})
	}
	all.Wait()
	// Data within a stream's fixed window needs no permission, and comes on top.
	if limit := int64(budget/8*3 + calls*wire.StreamWindow); most > limit || most < size {
		t.Errorf("at most %d bytes were held, want up to %d and at least a reply of %d", most, limit, size)
	}
	if err := up.Close(); err != nil {
		t.Error(err)
	}
	if used := b.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// TestRepliesOfManyCallsAtOnceCome: the account is too small for all replies of a crowd. They
// begin at once, and come one after the other: the account isn't filled with parts of
// replies, none of which could be completed.
func TestRepliesOfManyCallsAtOnceCome(t *testing.T) {
	const size, calls, budget = 200 << 10, 150, 16 << 20
	var open sync.WaitGroup
	open.Add(calls)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		open.Done()
		open.Wait()
		return ss.SendMsg(make([]byte, size))
	})
	a := memory.New(budget, 0)
	up, err := New(report.Backend{Target: backend}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	received, done := receiveAll(t, up, calls, size)
	done()
	if n := received.Load(); n != calls {
		t.Errorf("%d of %d replies came", n, calls)
	}
}

// TestCancelledLargeRepliesGiveTheirRoomBack cancels calls that have room and
// calls that wait for it.
func TestCancelledLargeRepliesGiveTheirRoomBack(t *testing.T) {
	b := memory.New(4<<20, 0)
	up, err := New(serveLarge(t, 2<<20), largeMessages, testHeaderBytes, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range 8 {
		call, err := openCall(ctx, up, Request{Method: "/test.Large/Get"})
		if err != nil {
			t.Fatal(err)
		}
		call.CloseSend()
		all.Go(func() {
			if m, err := call.Recv(); err == nil {
				m.Free()
			}
		})
	}
	poll(t, waitsForRoom(b))
	cancel()
	all.Wait()
	poll(t, func() string {
		if used, pressed := b.Used(), b.Pressed(); used != 0 || pressed {
			return fmt.Sprintf("%d bytes are still counted, waiting: %v", used, pressed)
		}
		return ""
	})
}

// waitsForRoom is for poll.
func waitsForRoom(b *memory.Account) func() string {
	return func() string {
		if !b.Pressed() {
			return "no call waits for room"
		}
		return ""
	}
}

// TestReplyJustOverTheWindowComes holds that a reply of which the most comes
// in the fixed window isn't forgotten while it waits for room.
func TestReplyJustOverTheWindowComes(t *testing.T) {
	for _, budget := range []int{8 << 20, 256 << 20} {
		for _, size := range []int{wire.StreamWindow + 1, 2*wire.StreamWindow - 1, 2*wire.StreamWindow + 1, wire.MaxStreamWindow, wire.MaxStreamWindow + 1, 2*wire.MaxStreamWindow + 1, 1 << 20} {
			replyOverTheWindow(t, budget, size)
		}
	}
}

func replyOverTheWindow(t *testing.T, budget, size int) {
	t.Helper()
	b := memory.New(int64(budget), 0)
	full, atOnce := b.Ask(nil, memory.Reply, int64(budget)/8*3, func() {}) // all that replies may fill
	if !atOnce {
		t.Fatal("the budget isn't empty at the beginning")
	}
	up, err := New(serveLarge(t, size), largeMessages, testHeaderBytes, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	call, err := openCall(ctx, up, Request{Method: "/test.Large/Get"})
	if err != nil {
		t.Fatal(err)
	}
	call.CloseSend()
	var reply mem.BufferSlice
	var recvErr error
	var receiving sync.WaitGroup
	receiving.Go(func() { reply, recvErr = call.Recv() })
	poll(t, waitsForRoom(b))
	b.Drop(full)
	receiving.Wait()
	if recvErr != nil || reply.Len() != size {
		t.Errorf("a reply of %d bytes came as %d: %v", size, reply.Len(), recvErr)
	}
	reply.Free()
	cancel()
	_ = up.Close()
}
