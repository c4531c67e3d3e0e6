package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// arrive has frames of DATA arrive on a stream.
func (c *Conn) arrive(stream uint32, data []byte) {
	var sent bytes.Buffer
	_ = http2.NewFramer(&sent, nil).WriteData(stream, false, data) // to memory
	c.in.scan(sent.Bytes(), c.received)
	c.countArrived()
}

// prefixOf returns the prefix of a message.
func prefixOf(size uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0}, size) }

// newPlace returns a place of a call with the id "one".
func newPlace(held *memory.Entry, giveUp context.CancelCauseFunc) *Place {
	k := &Call{ID: "one"}
	k.Flow.Count(held, giveUp, false)
	return &Place{Call: k}
}

// expectNow has the connection expect a call.
func expectNow(t testing.TB, c *Conn, p *Place) {
	t.Helper()
	if !c.queueUp(p) {
		t.Fatal("another call of the id is expected")
	}
}

// beginStream has grpc-go's side of a connection begin a stream.
func beginStream(t *testing.T, c *Conn) {
	t.Helper()
	var block, sent bytes.Buffer
	if err := hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: idHeader, Value: "one"}); err != nil {
		t.Fatal(err)
	}
	sent.WriteString(http2.ClientPreface)
	grpcGo := http2.NewFramer(&sent, nil)
	_ = grpcGo.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: GRPCWindow}) // to memory
	_ = grpcGo.WriteWindowUpdate(0, 1)
	_ = grpcGo.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	if _, err := c.Write(sent.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// askFor has it begin a stream and ask for a window for a message. The prefix of a large
// message has arrived.
func askFor(t *testing.T, c *Conn, p *Place, window uint32) {
	t.Helper()
	expectNow(t, c, p)
	beginStream(t, c)
	if window > StreamWindow {
		c.arrive(1, prefixOf(window))
	}
	var sent bytes.Buffer
	_ = http2.NewFramer(&sent, nil).WriteWindowUpdate(1, window) // to memory
	if _, err := c.Write(sent.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// TestReplyThatNeedsAllEndsInTime: a reply that is larger than all large replies together
// may be gets in alone. If others are there for long, its call ends and says why.
func TestReplyThatNeedsAllEndsInTime(t *testing.T) {
	for _, size := range []uint32{1 << 20, 8 << 20} { // 6 MiB are for large replies
		synctest.Test(t, func(t *testing.T) {
			a := memory.New(16<<20, 0)
			others := a.NewEntry()
			others.Add(memory.Reply, 6<<20)
			near, far := net.Pipe()
			c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
			go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
			ctx, cancel := context.WithCancelCause(t.Context())
			held := a.NewEntry()
			askFor(t, c, newPlace(held, cancel), size)
			if !held.Waiting() {
				t.Errorf("the call of a reply of %d bytes doesn't wait", size)
			}
			time.Sleep(memory.Patience + time.Second)
			var f *report.Fault
			ended := errors.As(context.Cause(ctx), &f) && f.Reason == report.ReasonLimitExceeded
			if want := size > 6<<20; ended != want {
				t.Errorf("a reply of %d bytes: its call ended %v, because of %v", size, ended, context.Cause(ctx))
			}
			_ = c.Close() // of a pipe
			_ = far.Close()
			others.Settle()
			held.Settle()
			if used := a.Used(); used != 0 || held.Waiting() {
				t.Errorf("%d bytes are still counted, waiting: %v", used, held.Waiting())
			}
		})
	}
}

// TestReplyThatWaitsWhileMemoryShrinks: a reload may lower the memory below what a reply
// needs that waits already. The reply goes on once it has room, or its call ends and names
// the limit.
func TestReplyThatWaitsWhileMemoryShrinks(t *testing.T) {
	const size = 4 << 20
	for name, c := range map[string]struct {
		total int64  // after the reload, when others hold the room for replies
		freed bool   // the others give it back
		key   string // that the call's end names; "": it goes on
	}{
		"never again":             {2 << 20, true, report.KeyMemory},
		"only alone":              {8 << 20, false, report.KeyBufferedBytes},
		"only alone, and it is":   {8 << 20, true, ""},
		"the others have it":      {16 << 20, false, ""},
		"the others give it back": {16 << 20, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := memory.New(16<<20, 0)
				others := a.NewEntry()
				others.Add(memory.Reply, 6<<20)
				near, far := net.Pipe()
				conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
				go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
				ctx, cancel := context.WithCancelCause(t.Context())
				held := a.NewEntry()
				askFor(t, conn, newPlace(held, cancel), size)
				time.Sleep(memory.Patience / 2)
				if !held.Waiting() {
					t.Error("the call doesn't wait")
				}
				a.SetBounds(16<<20, c.total)
				if c.freed {
					others.SettleMessages()
				}
				time.Sleep(3 * memory.Patience)
				var f *report.Fault
				switch cause := context.Cause(ctx); {
				case c.key == "" && cause != nil:
					t.Errorf("the call ended: %v", cause)
				case c.key == "" && c.freed && held.Waiting():
					t.Error("the call waits for room that there is")
				case c.key != "" && (!errors.As(cause, &f) || f.Key != c.key || f.Reason != report.ReasonLimitExceeded):
					t.Errorf("the call ended because of %v, want %s", cause, c.key)
				}
				_ = conn.Close() // of a pipe
				_ = far.Close()
				others.Settle()
				held.Settle()
				if used := a.Used(); used != 0 || held.Waiting() {
					t.Errorf("%d bytes are still counted, waiting: %v", used, held.Waiting())
				}
			})
		})
	}
}

// TestWindowThatComesDuringTheWait: while a large message waits for room, grpc-go gives the
// stream more window. Behind the update for the message the backend gets it, up to a whole
// DATA frame, for which it may wait.
func TestWindowThatComesDuringTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		lacks := uint32(size - (StreamWindow - prefixBytes)) // of the window, behind the prefix
		a := memory.New(16<<20, 0)
		others := a.NewEntry()
		others.Add(memory.Reply, 6<<20)
		near, far := net.Pipe()
		conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
		got := make(chan []uint32, 1)
		go func() { got <- updates(t, far) }()
		held := a.NewEntry()
		expectNow(t, conn, newPlace(held, nil))
		beginStream(t, conn)
		conn.arrive(1, prefixOf(size))
		give := func(window uint32) {
			t.Helper()
			var sent bytes.Buffer
			_ = http2.NewFramer(&sent, nil).WriteWindowUpdate(1, window) // to memory
			if _, err := conn.Write(sent.Bytes()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		give(lacks - (GRPCWindow - StreamWindow)) // no more than the message needs
		if !held.Waiting() {
			t.Error("the call doesn't wait")
		}
		give(100_000)
		others.Settle()
		synctest.Wait()
		_ = conn.Close() // of a pipe
		_ = far.Close()
		held.Settle()
		if all, want := <-got, []uint32{lacks, maxDataBytes}; !slices.Equal(all, want) {
			t.Errorf("the backend got the windows %d, want %d", all, want)
		}
	})
}

// TestGrantedReplyCountsWithItsCall: from the moment a backend may send a large message
// its call holds all of it, and the account nothing besides. If the rest can't come, the
// call holds what came.
func TestGrantedReplyCountsWithItsCall(t *testing.T) {
	const size, came = 1 << 20, 300_000
	a := memory.New(16<<20, 0) // nothing is counted ahead
	near, far := net.Pipe()
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	held := a.NewEntry()
	p := newPlace(held, nil)
	f := &p.Call.Flow
	askFor(t, c, p, size)
	want := func(when string, all, arrived int64) {
		t.Helper()
		if got := held.Messages(); got != all {
			t.Errorf("%s the call holds %d bytes, want %d", when, got, all)
		}
		if got := held.Arrived(); got != arrived {
			t.Errorf("%s %d bytes have arrived, want %d", when, got, arrived)
		}
		if got := a.Used(); got != all {
			t.Errorf("%s the account has %d bytes, want the call's %d", when, got, all)
		}
	}
	const granted = size - (StreamWindow - prefixBytes) + prefixBytes
	want("before anything but the prefix has come", granted, prefixBytes)

	sending := make(chan error, 2)
	backend := http2.NewFramer(far, nil)
	read := func(bytes int) {
		t.Helper()
		for buf := make([]byte, bytes); bytes > 0; {
			n, err := c.Read(buf[:bytes])
			if err != nil {
				t.Fatal(err)
			}
			bytes -= n
		}
		if err := <-sending; err != nil {
			t.Fatal(err)
		}
	}
	go func() { sending <- backend.WriteSettings() }()
	read(frameHeaderBytes)
	go func() { sending <- backend.WriteDataPadded(1, false, make([]byte, came), make([]byte, 255)) }()
	read(frameHeaderBytes + came + 256)
	want("behind a part", granted, prefixBytes+came)
	go func() { sending <- backend.WriteRSTStream(1, http2.ErrCodeCancel) }()
	read(frameHeaderBytes + 4)
	want("once the rest can't come", prefixBytes+came, prefixBytes+came)
	f.Taken(1, came)
	want("once it is taken", 0, 0)
}

// A quickBackend answers the first update of the stream 1 while it is being written.
type quickBackend struct {
	net.Conn
	answer func()
}

func (q *quickBackend) Write(b []byte) (int, error) {
	n, err := q.Conn.Write(b)
	if answer := q.answer; answer != nil && b[frameKindAt] == byte(http2.FrameWindowUpdate) && b[len(b)-windowUpdateBytes+8] == 1 {
		q.answer = nil
		answer()
	}
	return n, err
}

// TestAnswerToAGrantComesAtOnce: what comes as soon as a large message has its room counts for the
// room. Otherwise bytes behind the message would, and the next large one would wait for them.
func TestAnswerToAGrantComesAtOnce(t *testing.T) {
	a := memory.New(64<<20, 0)
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	q := &quickBackend{Conn: near}
	c := NewConn(q, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close()
	held, others := a.NewEntry(), a.NewEntry()
	defer held.Settle()
	p := newPlace(held, nil)
	expectNow(t, c, p)
	beginStream(t, c)
	others.Add(memory.Reply, 64<<20)

	const large, small = 200 << 10, 60_000
	all := append(append(prefixOf(large), make([]byte, large)...), append(prefixOf(small), make([]byte, small)...)...)
	send := func(n int) {
		for part := range slices.Chunk(all[:n], maxDataBytes) {
			c.arrive(1, part)
		}
		all = all[n:]
	}
	send(maxDataBytes) // it waits for its room
	answered := make(chan struct{})
	q.answer = func() {
		send(large + prefixBytes - maxDataBytes - 1000)
		close(answered)
	}
	others.Settle()
	await(t, "the update", answered)
	send(1000)
	p.Received(large)
	p.Taken(1, large)
	send(prefixBytes + small)
	p.Received(small)
	p.Taken(1, small)
	if n := p.Call.Flow.Waiting(); n != 0 {
		t.Errorf("all is taken, and %d bytes wait", n)
	}
}
