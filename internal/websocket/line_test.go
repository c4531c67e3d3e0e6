package websocket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/buffer"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/socket"
)

var tcpPair = parts.TCPPair // by a short name

// writes is a connection whose writes can be waited for, and held up.
type writes struct {
	net.Conn
	mu  sync.Mutex
	all [][]byte
	err error
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, bytes.Clone(p))
	return len(p), nil
}

func wantWrites(t *testing.T, w *writes, want ...[]byte) {
	t.Helper()
	if len(w.all) != len(want) {
		t.Fatalf("there were %d writes, want %d: %x", len(w.all), len(want), w.all)
	}
	for i := range want {
		if !bytes.Equal(w.all[i], want[i]) {
			t.Errorf("write %d was %x, want %x", i, w.all[i], want[i])
		}
	}
}

func TestMessagesThatFollowGoOutTogether(t *testing.T) {
	w := &writes{}
	c := newLine(w, mem.DefaultBufferPool(), nil)
	for i, more := range []bool{true, true, false, false} {
		c.mu.Lock()
		if err := c.message(Binary, nil, more, [][]byte{{byte(i)}, []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := c.unlock(); err != nil {
			t.Fatal(err)
		}
	}
	wantWrites(t, w, []byte("\x82\x02\x00x\x82\x02\x01x\x82\x02\x02x"), []byte("\x82\x02\x03x"))
	if c.held != nil {
		t.Error("a buffer is held although nothing is left to write")
	}
}

// TestLargeMessageTakesNoAllocation, and the line keeps no reference to its bytes.
func TestLargeMessageTakesNoAllocation(t *testing.T) {
	server, client := parts.TCPPair(t)
	c := newLine(server, buffer.NewPool(256, 64<<10), nil)
	pieces, got := [][]byte{make([]byte, maxHeld)}, make([]byte, len("\x82\x7e\x80\x00")+maxHeld)
	if n := testing.AllocsPerRun(100, func() {
		if err := c.message(Binary, nil, false, pieces); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, got); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("a large message takes %v allocations", n)
	}
	if c.large.usual[1] != nil || c.large.next != nil {
		t.Error("the line refers to the last message")
	}
}

// TestHeldMessagesAreBounded: more that follows doesn't make a message wait
// for ever.
func TestHeldMessagesAreBounded(t *testing.T) {
	w := &writes{}
	c := newLine(w, mem.DefaultBufferPool(), nil)
	message := make([]byte, 10<<10)
	for range 4 {
		if err := c.message(Binary, nil, true, [][]byte{message}); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.all) != 1 || len(w.all[0]) < maxHeld {
		t.Errorf("after 40 KiB there were %d writes, want one of 32 KiB and more", len(w.all))
	}
}

// TestBurstOnASocket leaves in writes of up to maxHeld, and a message more: none is copied twice.
func TestBurstOnASocket(t *testing.T) {
	server, client := parts.TCPPair(t)
	c := newLine(server, mem.DefaultBufferPool(), nil)
	var want []byte
	for i := range 100 {
		message := bytes.Repeat([]byte{byte(i)}, 1000)
		want = append(append(want, 0x82, 126, 1000>>8, 1000&0xff), message...)
		if err := c.message(Binary, nil, true, [][]byte{message[:1], message[1:]}); err != nil {
			t.Fatal(err)
		}
		if c.held != nil && cap(*c.held) > maxHeld {
			t.Fatalf("%d bytes are held in a buffer of %d", len(*c.held), cap(*c.held))
		}
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes came, %v", err)
	}
}

// TestLoneMessageTakesOneBuffer of its size.
func TestLoneMessageTakesOneBuffer(t *testing.T) {
	for _, size := range []int{100, 5000, 20_000} {
		pool := &parts.CountingPool{BufferPool: mem.DefaultBufferPool()}
		c := newLine(&writes{}, pool, nil)
		if err := c.message(Binary, nil, false, [][]byte{make([]byte, 1), make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		if gets, out := pool.Gets.Load(), pool.Out.Load(); gets != 1 || out != 0 {
			t.Errorf("%d bytes took %d buffers and kept %d, want one and none", size, gets, out)
		}
	}
}

// TestLargeMessageTakesHeldOnesAlong: in order, and none joined or split.
func TestLargeMessageTakesHeldOnesAlong(t *testing.T) {
	w := &writes{}
	c := newLine(w, mem.DefaultBufferPool(), nil)
	large, told := bytes.Repeat([]byte("l"), 300<<10), 0
	if err := errors.Join(
		c.message(Binary, nil, true, [][]byte{[]byte("first")}),
		c.message(Binary, func() { told++ }, false, [][]byte{large[:5], large[5 : 280<<10], large[280<<10:]}),
		c.message(Binary, nil, false, [][]byte{[]byte("last")}),
	); err != nil {
		t.Fatal(err)
	}
	want := append([]byte("\x82\x05first\x82\x7f\x00\x00\x00\x00\x00\x04\xb0\x00"), large...)
	want = append(want, "\x82\x04last"...)
	if got := bytes.Join(w.all, nil); !bytes.Equal(got, want) {
		t.Errorf("%d bytes were written, want %d, or they differ", len(got), len(want))
	}
	if told != 2 {
		t.Errorf("progress was told %d times, want 2: after 256 KiB or so, and at the end", told)
	}
}

// TestCloseFrameWaitsForTheMessage: a reader that answers a close must neither wait
// for the message that is being written, nor write into its frame.
func TestCloseFrameWaitsForTheMessage(t *testing.T) {
	w := &writes{}
	c := newLine(w, mem.DefaultBufferPool(), nil)
	c.mu.Lock() // a message is being written
	c.answerClose(StatusGoingAway)
	wantWrites(t, w)
	c.hold([]byte("\x82\x01m"))
	if err := errors.Join(c.flush(), c.unlock()); err != nil {
		t.Fatal(err)
	}
	wantWrites(t, w, []byte("\x82\x01m"), []byte("\x88\x02\x03\xe9"))
	if err := c.message(Binary, nil, false, [][]byte{[]byte("late")}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a message after the close frame returned %v, want %v", err, net.ErrClosed)
	}
	if err := c.sendClose(StatusNormalClosure, ""); err != nil || len(w.all) != 2 {
		t.Errorf("a second close frame: %d writes and %v, want 2 and nil", len(w.all), err)
	}
}

// TestNothingFollowsABrokenFrame: its rest would be taken for the next.
func TestNothingFollowsABrokenFrame(t *testing.T) {
	w := &writes{err: io.ErrClosedPipe}
	c := newLine(w, mem.DefaultBufferPool(), nil)
	if err := c.message(Binary, nil, false, [][]byte{make([]byte, 64<<10)}); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("the message returned %v, want %v", err, io.ErrClosedPipe)
	}
	w.err = nil
	if err := c.sendClose(StatusNormalClosure, ""); err == nil {
		t.Error("a close frame was written after it")
	}
	wantWrites(t, w)
}

func TestWriteThatFailsIsKnown(t *testing.T) {
	w := &writes{err: io.ErrClosedPipe}
	c := newLine(w, mem.DefaultBufferPool(), nil)
	if err := c.message(Binary, nil, true, [][]byte{[]byte("trailers")}); err != nil {
		t.Fatalf("a message that waits for more failed: %v", err)
	}
	if err := c.sendClose(StatusNormalClosure, ""); !errors.Is(err, io.ErrClosedPipe) || !c.lost.Load() {
		t.Errorf("the close frame returned %v and lost is %v, want %v and true", err, c.lost.Load(), io.ErrClosedPipe)
	}
}

// TestReaderHoldsNoBufferWhileItWaits, and whatever comes is read in order,
// also what was read with the handshake.
func TestReaderHoldsNoBufferWhileItWaits(t *testing.T) {
	pool := &parts.CountingPool{BufferPool: mem.DefaultBufferPool()}
	server, client := tcpPair(t)
	sent := make([]byte, 300<<10)
	for i := range sent {
		sent[i] = byte(i >> 8)
	}
	const early = 1000
	for name, conn := range map[string]net.Conn{"a socket": server, "another": struct{ net.Conn }{server}} {
		c := newLine(conn, pool, sent[:early])
		var sending sync.WaitGroup
		sending.Go(func() {
			if _, err := client.Write(sent[early:]); err != nil {
				t.Error(err)
			}
		})
		got := make([]byte, 0, len(sent))
		for len(got) < len(sent) {
			if len(c.unread) == 0 {
				if n := pool.Out.Load(); n != 0 {
					t.Fatalf("%s: %d buffers are out while nothing is unread", name, n)
				}
				if _, err := c.fill(nil); err != nil {
					t.Fatal(err)
				}
			}
			n := min(len(c.unread), 700)
			got = append(got, c.unread[:n]...)
			c.consume(n)
		}
		sending.Wait()
		if !bytes.Equal(got, sent) {
			t.Fatalf("%s: the bytes that were read differ from those that were sent", name)
		}
		if n := c.received.Load(); n != int64(len(sent)-early) {
			t.Errorf("%s: %d bytes are counted as received, want %d", name, n, len(sent)-early)
		}
		if err := server.SetReadDeadline(socket.LongAgo); err != nil {
			t.Fatal(err)
		}
		if _, err := c.fill(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: after the deadline: %v, want %v", name, err, os.ErrDeadlineExceeded)
		}
		if err := server.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	_ = client.Close() // the end is what is looked for
	for name, conn := range map[string]net.Conn{"a socket": server, "another": struct{ net.Conn }{server}} {
		if _, err := newLine(conn, pool, nil).fill(nil); !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end: %v, want %v", name, err, io.EOF)
		}
	}
	if n := pool.Out.Load(); n != 0 {
		t.Errorf("%d buffers are out at the end", n)
	}
}
