package bridge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc/mem"
)

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

func TestFrameHeaders(t *testing.T) {
	for _, c := range []struct {
		length int
		want   []byte
	}{
		{0, []byte{0x82, 0}},
		{125, []byte{0x82, 125}},
		{126, []byte{0x82, 126, 0, 126}},
		{1<<16 - 1, []byte{0x82, 126, 0xff, 0xff}},
		{1 << 16, []byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
	} {
		if got := appendFrameHeader(nil, c.length); !bytes.Equal(got, c.want) {
			t.Errorf("the header of %d bytes is %x, want %x", c.length, got, c.want)
		}
	}
}

func TestMessagesThatFollowGoOutTogether(t *testing.T) {
	w := &writes{}
	c := newSocketConn(w, mem.DefaultBufferPool())
	for i, more := range []bool{true, true, false, false} {
		c.mu.Lock()
		if err := c.message(nil, more, [][]byte{{byte(i)}, []byte("x")}); err != nil {
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

// TestHeldMessagesAreBounded: more that follows doesn't make a message wait
// for ever.
func TestHeldMessagesAreBounded(t *testing.T) {
	w := &writes{}
	c := newSocketConn(w, mem.DefaultBufferPool())
	message := make([]byte, 10<<10)
	for range 4 {
		if err := c.message(nil, true, [][]byte{message}); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.all) != 1 || len(w.all[0]) < maxWebSocketBuffer {
		t.Errorf("after 40 KiB there were %d writes, want one of 32 KiB and more", len(w.all))
	}
}

// TestLargeMessageTakesHeldOnesAlong: in order, and none joined or split.
func TestLargeMessageTakesHeldOnesAlong(t *testing.T) {
	w := &writes{}
	c := newSocketConn(w, mem.DefaultBufferPool())
	large, told := bytes.Repeat([]byte("l"), 300<<10), 0
	if err := errors.Join(
		c.message(nil, true, [][]byte{[]byte("first")}),
		c.message(func() { told++ }, false, [][]byte{large[:5], large[5 : 280<<10], large[280<<10:]}),
		c.message(nil, false, [][]byte{[]byte("last")}),
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

// TestCloseFrameWaitsForTheMessage: coder/websocket answers a close while a
// message is written; it must neither wait nor get into the frame.
func TestCloseFrameWaitsForTheMessage(t *testing.T) {
	w := &writes{}
	c := newSocketConn(w, mem.DefaultBufferPool())
	c.mu.Lock() // a message is being written
	if n, err := c.Write([]byte{0x88, 0}); n != 2 || err != nil {
		t.Fatalf("Write returned %d and %v, want 2 and nil", n, err)
	}
	wantWrites(t, w)
	c.hold([]byte("\x82\x01m"))
	if err := errors.Join(c.flush(), c.unlock()); err != nil {
		t.Fatal(err)
	}
	wantWrites(t, w, []byte("\x82\x01m"), []byte{0x88, 0})
}

// TestCloseWaitsForTheCloseFrame: coder/websocket closes the connection as soon
// as it has answered a close, or believes so.
func TestCloseWaitsForTheCloseFrame(t *testing.T) {
	server, client := tcpPair(t)
	c := newSocketConn(server, mem.DefaultBufferPool())
	c.mu.Lock() // a message is being written
	if _, err := c.Write([]byte{0x88, 0}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c.hold([]byte("m"))
	if err := errors.Join(c.flush(), c.unlock()); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); string(got) != "m\x88\x00" || err != nil {
		t.Errorf("the client got %q and %v, want the message and the close frame, and the end", got, err)
	}
	if err := c.message(nil, false, [][]byte{[]byte("late")}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a message after the close frame returned %v, want %v", err, net.ErrClosed)
	}
}

// TestNothingFollowsABrokenFrame: its rest would be taken for the next.
func TestNothingFollowsABrokenFrame(t *testing.T) {
	w := &writes{err: io.ErrClosedPipe}
	c := newSocketConn(w, mem.DefaultBufferPool())
	if err := c.message(nil, false, [][]byte{make([]byte, 64<<10)}); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("the message returned %v, want %v", err, io.ErrClosedPipe)
	}
	w.err = nil
	if _, err := c.Write([]byte{0x88, 0}); err == nil {
		t.Error("a close frame was written after it")
	}
	wantWrites(t, w)
}

func TestWriteThatFailsIsKnown(t *testing.T) {
	w := &writes{err: io.ErrClosedPipe}
	c := newSocketConn(w, mem.DefaultBufferPool())
	if err := c.message(nil, true, [][]byte{[]byte("trailers")}); err != nil {
		t.Fatalf("a message that waits for more failed: %v", err)
	}
	if _, err := c.Write([]byte{0x88, 0}); !errors.Is(err, io.ErrClosedPipe) || !c.lost.Load() {
		t.Errorf("the write returned %v and lost is %v, want %v and true", err, c.lost.Load(), io.ErrClosedPipe)
	}
}

// TestLentBufferIsGivenBack: whatever comes is read in order, and who waits
// for more holds no large buffer.
func TestLentBufferIsGivenBack(t *testing.T) {
	server, client := tcpPair(t)
	c := newSocketConn(&clientConn{Conn: server}, mem.DefaultBufferPool())
	sent := make([]byte, 300<<10)
	for i := range sent {
		sent[i] = byte(i >> 8)
	}
	for range 3 {
		var sending sync.WaitGroup
		sending.Go(func() {
			if _, err := client.Write(sent); err != nil {
				t.Error(err)
			}
		})
		got := make([]byte, 0, len(sent))
		p, lent := make([]byte, maxLentTo), false
		for len(got) < len(sent) {
			n, err := c.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
			lent = lent || c.lent != nil
		}
		sending.Wait()
		if !bytes.Equal(got, sent) {
			t.Fatal("the bytes that were read differ from those that were sent")
		}
		if !lent {
			t.Error("no larger buffer was lent while 300 KiB were at hand")
		}
		if c.lent != nil {
			t.Error("the buffer is still lent after all was read")
		}
		if got := c.received.Load(); got%int64(len(sent)) != 0 {
			t.Errorf("%d bytes are counted as received, want a multiple of %d", got, len(sent))
		}
	}
}
