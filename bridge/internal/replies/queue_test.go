package replies

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// queueOf opens a call of a backend's handler. At the test's end the call is
// ended, and then nothing of it may be left.
func queueOf(t *testing.T, handler func(ss grpc.ServerStream) error) (*Queue, *memory.Entry) {
	t.Helper()
	gs := grpc.NewServer(grpc.ForceServerCodecV2(parts.BytesCodec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return handler(ss) }))
	backend, stop := upstream.InProcess(gs)
	budget := memory.New(1<<30, 0)
	t.Cleanup(stop)
	t.Cleanup(gs.Stop)
	up, err := upstream.New(backend, report.SizeLimit{Bytes: 1 << 20, Key: report.KeyMessageBytes}, 64<<10, budget, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	l := budget.NewEntry()
	stream, err := up.Open(ctx, cancel, upstream.Request{Method: "/test.Service/Method", Metadata: metadata.Pairs("x-request-id", "the call"), Held: l, ID: "the call"})
	if err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	q := New(stream, l, &reader, nil)
	t.Cleanup(func() {
		cancel(errDropped)
		q.Drop()
		reader.Wait()
		l.Settle()
		parts.WantUsed(t, budget, 0)
	})
	return q, l
}

// takeNext takes a message, and gives its bytes back.
func takeNext(t *testing.T, q *Queue) {
	t.Helper()
	m, _, err := q.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q.Sent(m.Len(), false)
	m.Free()
}

// readingAhead opens a call whose backend sends so many messages of a size (in
// all more than its window, so that the end is not at hand)
// after a few small ones, and takes these, so that the rest is read ahead.
func readingAhead(t *testing.T, messages, size int) (*Queue, *memory.Entry) {
	t.Helper()
	q, l := queueOf(t, func(ss grpc.ServerStream) error {
		for n := range burst + messages {
			m := make([]byte, size)
			binary.BigEndian.PutUint16(m, uint16(n))
			if n < burst {
				m = m[:2]
			}
			if err := ss.SendMsg(m); err != nil {
				return err
			}
		}
		return nil
	})
	q.up.CloseSend()
	if _, ok := q.up.Header(); !ok {
		t.Fatal("there is no header")
	}
	synctest.Wait() // the backend has sent what fits the window
	for range burst {
		takeNext(t, q)
	}
	if q.ahead == nil {
		t.Fatalf("after %d messages that were there at once nobody reads ahead", burst)
	}
	return q, l
}

// TestPingPongIsNotReadAhead: each answer has to be waited for, however short
// the wait is. The time of a bubble passes only while everybody waits, so the
// backend answers after Next has begun to wait, however slow the machine is.
func TestPingPongIsNotReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := queueOf(t, func(ss grpc.ServerStream) error {
			for {
				var m []byte
				if err := ss.RecvMsg(&m); err != nil {
					return err
				}
				time.Sleep(time.Nanosecond)
				if err := ss.SendMsg(m); err != nil {
					return err
				}
			}
		})
		for range 10 * burst {
			if err := q.up.Send(mem.BufferSlice{mem.SliceBuffer("ping")}); err != nil {
				t.Fatal(err)
			}
			takeNext(t, q)
		}
		if q.ahead != nil {
			t.Error("a goroutine reads ahead of a client that waits for each answer")
		}
	})
}

func TestReadingAheadIsBounded(t *testing.T) {
	for _, c := range []struct{ messages, size, want int }{
		{10_000, 100, aheadMessages},
		{1000, 8 << 10, aheadBytes / (8 << 10)},
		{20, 200 << 10, 1}, // one beyond the bound is the one that is held anyway
	} {
		synctest.Test(t, func(t *testing.T) {
			q, l := readingAhead(t, c.messages, c.size)
			synctest.Wait() // the reader has read all that it may
			if q.ahead.count != c.want || !q.ahead.full {
				t.Errorf("%d messages of %d bytes were read ahead, want %d", q.ahead.count, c.size, c.want)
			}
			least := int64(c.want * c.size)
			if got, most := l.Total(), least+2*wire.MaxStreamWindow; got < least || got > most {
				t.Errorf("the call is charged with %d bytes, want %d to %d: what was read, and what fits the window", got, least, most)
			}
		})
	}
}

func TestReadAheadMessagesComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 500
		q, _ := readingAhead(t, messages, 1000)
		more := true
		for n := burst; n < burst+messages; n++ {
			synctest.Wait()
			m, next, err := q.Next(t.Context())
			if err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
			if got := int(binary.BigEndian.Uint16(m.Materialize())); got != n {
				t.Fatalf("message %d came where %d was due", got, n)
			}
			more = next
			q.Sent(m.Len(), false)
			m.Free()
		}
		if !more {
			t.Error("the end was at hand when the last message was, and Next didn't say so")
		}
		if _, _, err := q.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("after the last message came %v, want %v", err, io.EOF)
		}
	})
}

// TestReadingAheadEndsWithTheCall: whatever the reader does, Drop ends it, and
// nothing stays charged.
func TestReadingAheadEndsWithTheCall(t *testing.T) {
	for _, size := range []int{4 << 10, 50 << 10} {
		synctest.Test(t, func(t *testing.T) {
			readingAhead(t, 1000, size)
		})
	}
}
