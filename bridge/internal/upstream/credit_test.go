package upstream

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
)

// receiveAll begins so many calls, and returns how many have their reply. done waits
// for all.
func receiveAll(t *testing.T, up *Upstream, calls, size int) (received *atomic.Int64, done func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	received = new(atomic.Int64)
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			call, err := openCall(ctx, up, Request{Method: "/test.Large/Get"})
			if err != nil {
				t.Error(err)
				return
			}
			call.CloseSend()
			m, err := call.Recv()
			if err != nil || m.Len() != size {
				t.Errorf("a reply of %d bytes with %v, want %d", m.Len(), err, size)
			}
			m.Free()
			received.Add(1)
		})
	}
	return received, func() { all.Wait(); cancel() }
}

// TestConnectionsWindowWaitsForRoom: while the account is full a backend may send what
// its connection's window has, on all streams together, and the rest when there is room.
func TestConnectionsWindowWaitsForRoom(t *testing.T) {
	const size, calls = 60 << 10, 90
	a := memory.New(16<<20, 0)
	up, err := New(serveLarge(t, size), largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	others := a.NewEntry()
	others.Add(memory.Small, 16<<20)
	received, done := receiveAll(t, up, calls, size)
	poll(t, waitsForRoom(a))
	if n := received.Load(); n > minConnWindow/size {
		t.Errorf("%d replies of %d bytes have come without room", n, size)
	}
	if got := a.Held() - 16<<20; got < minConnWindow || got > 2*minConnWindow {
		t.Errorf("%d bytes are counted besides those of others, want a window of %d, and what came in it", got, minConnWindow)
	}
	others.Settle()
	done()
	if n := received.Load(); n != calls {
		t.Errorf("%d of %d replies came", n, calls)
	}
	if err := up.Close(); err != nil {
		t.Error(err)
	}
	if held := a.Held(); held != 0 {
		t.Errorf("%d bytes are still counted", held)
	}
}

// TestMessageWithRoomNeedsNoMore: the bytes of a large message that has its room come,
// though the account is full.
func TestMessageWithRoomNeedsNoMore(t *testing.T) {
	for _, room := range []int{16 << 20, 256 << 20} { // a window of 64 KiB and one of 1 MiB
		const size = 4 << 20 // many times the connection's window
		a := memory.New(int64(room), 0)
		up, err := New(serveLarge(t, size), largeMessages, testHeaderBytes, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		others := a.NewEntry()
		others.Add(memory.Small, room)
		_, done := receiveAll(t, up, 1, size)
		done()
		others.Settle()
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMessageThatGetsRoomLateNeedsNoMore: the same where the first window of the message had
// come before it got its room.
func TestMessageThatGetsRoomLateNeedsNoMore(t *testing.T) {
	for _, room := range []int{16 << 20, 256 << 20} {
		const size = 4 << 20
		a := memory.New(int64(room), 0)
		bulk, others := a.NewEntry(), a.NewEntry()
		bulk.Add(memory.Reply, room/8*3)
		up, err := New(serveLarge(t, size), largeMessages, testHeaderBytes, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, done := receiveAll(t, up, 1, size)
		poll(t, waitsForRoom(a))
		others.Add(memory.Small, room)
		bulk.Settle()
		done()
		others.Settle()
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestClosedConnectionWaitsForNothing: what a connection waits for is given up with it.
func TestClosedConnectionWaitsForNothing(t *testing.T) {
	a := memory.New(16<<20, 0)
	up, err := New(serveLarge(t, 60<<10), largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	others := a.NewEntry()
	others.Add(memory.Small, 16<<20)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 3 {
		call, err := openCall(ctx, up, Request{Method: "/test.Large/Get"})
		if err != nil {
			t.Fatal(err)
		}
		call.CloseSend()
	}
	poll(t, waitsForRoom(a))
	if err := up.Close(); err != nil {
		t.Error(err)
	}
	poll(t, func() string {
		if a.Pressed() {
			return "somebody waits for room"
		}
		return ""
	})
	others.Settle()
	if held := a.Held(); held != 0 {
		t.Errorf("%d bytes are still counted", held)
	}
}

// TestLargeRepliesLeaveNoCreditBehind: however many large replies have come, a connection
// brings no more than its window once the account is full.
func TestLargeRepliesLeaveNoCreditBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget, size, calls, rounds = 16 << 20, 300 << 10, 20, 5
		large := make([]byte, size)
		gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.WaitForHandlers(true), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			if method, _ := grpc.MethodFromServerStream(ss); method == "/test.Large/Get" {
				return ss.SendMsg(large)
			}
			for {
				if err := ss.SendMsg(large[:1000]); err != nil {
					return err
				}
			}
		}))
		backend, stop := InProcess(gs)
		defer stop()
		defer gs.Stop()
		a := memory.New(budget, 0)
		up, err := New(backend, largeMessages, testHeaderBytes, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range rounds {
			bulk := a.NewEntry()
			bulk.Add(memory.Reply, budget/8*3)
			_, done := receiveAll(t, up, calls, size)
			synctest.Wait() // the first window of each has come, and has given the connection's back
			bulk.Settle()
			done()
		}
		synctest.Wait()
		others := a.NewEntry()
		others.Add(memory.Small, budget-int(a.Used()))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for n := range calls {
			id := strconv.Itoa(n)
			held := a.NewEntry()
			defer held.Settle()
			if _, err := openCall(ctx, up, Request{Method: "/test.Small/Watch", Metadata: metadata.Pairs("x-request-id", id), Held: held, ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // the backend has sent what it may
		if got, most := a.Used()-budget, wire.ConnWindow(a); got < most/2 || got > most+64<<10 {
			t.Errorf("%d bytes have come without room, want up to the connection's window of %d", got, most)
		}
		cancel()
		others.Settle()
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	})
}
