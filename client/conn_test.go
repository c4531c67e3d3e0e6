package client

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A hooked connection calls between before a deadline of reads is set that has passed.
type hooked struct {
	net.Conn
	between func()
}

func (h *hooked) SetReadDeadline(t time.Time) error {
	if t.Equal(socket.LongAgo) {
		h.between()
	}
	return h.Conn.SetReadDeadline(t)
}

// TestRetireSparesCalls: a retired connection gives grpc-go a GOAWAY, and no error, whenever Read
// finds out that it is retired.
func TestRetireSparesCalls(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	raw := &hooked{Conn: near}
	c := newConn(raw, WebSocket, nil)
	defer c.Close()
	var got []byte
	read := func(n int) {
		p := make([]byte, n)
		if _, err := io.ReadFull(c, p); err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, p...)
	}
	raw.between = func() {
		if c.mu.TryLock() { // otherwise no Read can have restored the deadline by now
			c.mu.Unlock()
			read(len(goAway))
		}
	}
	c.retire()
	read(len(goAway) - len(got))
	go func() { _, _ = far.Write(pingFrame) }() // until it is read, or far is closed
	read(len(pingFrame))
	if want := slices.Concat(goAway, pingFrame); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRetireAfterGoAway: a retired connection gives grpc-go no GOAWAY that names a higher stream than
// the edge's own did, and goes on.
func TestRetireAfterGoAway(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := newConn(near, WebSocket, nil)
	defer c.Close()
	own := frame.Make(http2.FrameGoAway, 0, 0, 0, 1, 0, 0, 0, 0)
	want := slices.Concat(pingFrame, own, pingFrame)
	go func() { // until it is read, or far is closed
		_, _ = far.Write(want[:len(want)-len(pingFrame)])
		c.retire()
		_, _ = far.Write(pingFrame)
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// A late connection times out once more after its deadline has been set anew, as bufconn may.
type late struct {
	net.Conn
	over, again bool
}

func (l *late) SetReadDeadline(t time.Time) error {
	l.over, l.again = l.over || t.Equal(socket.LongAgo), l.over
	return l.Conn.SetReadDeadline(t)
}

func (l *late) Read(p []byte) (int, error) {
	if l.again {
		l.over, l.again = false, false
		return 0, os.ErrDeadlineExceeded
	}
	return l.Conn.Read(p)
}

// TestLateTimer: a retired connection goes on although a timer of the deadline that retired it is
// late, and ends at grpc-go's own deadline.
func TestLateTimer(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := newConn(&late{Conn: near}, GRPCWeb, nil)
	defer c.Close()
	c.retire()
	go func() { _, _ = far.Write(pingFrame) }() // until it is read, or far is closed
	got := make([]byte, len(goAway)+len(pingFrame))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, slices.Concat(goAway, pingFrame)) {
		t.Errorf("%q, %v", got, err)
	}
	if err := c.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(got); !socket.TimedOut(err) {
		t.Errorf("at its own deadline: %v", err)
	}
}

// TestEndsThatAreNotSilence: a connection whose other end was there isn't called silent, however
// it ends.
func TestEndsThatAreNotSilence(t *testing.T) {
	for name, test := range map[string]struct {
		watched bool
		way     Way
		use     func(t *testing.T, c *conn, far net.Conn)
		silent  bool
	}{
		"idle, and closed with a GOAWAY": {true, WebSocket, func(t *testing.T, c *conn, _ net.Conn) {
			parts.Elapse(12 * time.Second)
			write(t, c)
		}, false},
		"a local connection of dial's ends": {false, WebSocket, func(t *testing.T, c *conn, _ net.Conn) {
			parts.Elapse(12 * time.Second)
			write(t, c)
		}, false},
		"reset at the first write for long": {false, GRPC, func(t *testing.T, c *conn, far net.Conn) {
			parts.Elapse(time.Hour)
			_ = far.Close()
			_, _ = c.Write(pingFrame)
		}, false},
		"nothing is used": {false, GRPC, func(*testing.T, *conn, net.Conn) {}, false},
		"a slow call":     {true, GRPC, func(t *testing.T, c *conn, _ net.Conn) { write(t, c); parts.Elapse(time.Minute) }, false},
		"in memory":       {false, GRPCWeb, func(t *testing.T, c *conn, _ net.Conn) { write(t, c); parts.Elapse(time.Minute) }, false},
		"answered late": {false, GRPC, func(t *testing.T, c *conn, far net.Conn) {
			write(t, c)
			parts.Elapse(time.Minute)
			go func() { _, _ = far.Write(pingFrame) }() // until it is read
			if _, err := io.ReadFull(c, make([]byte, len(pingFrame))); err != nil {
				t.Error(err)
			}
			parts.Elapse(12 * time.Second)
			write(t, c)
		}, false},
		"idle, and ended by the other end":         {false, GRPC, idle(io.EOF), false},
		"idle, and ended inside a WebSocket":       {false, WebSocket, idle(fmt.Errorf("frame: %w", io.ErrUnexpectedEOF)), false},
		"idle, and reset":                          {false, GRPC, idle(&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}), false},
		"idle, and nobody has ended it but itself": {false, GRPC, idle(net.ErrClosed), true},
		"a ping of dial's without an answer": {false, WebSocket, func(t *testing.T, c *conn, _ net.Conn) {
			parts.Elapse(10 * time.Second)
			write(t, c)
			parts.Elapse(2500 * time.Millisecond)
		}, true},
		"watch says so": {true, WebSocket, func(_ *testing.T, c *conn, _ net.Conn) { c.gone.Store(true) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				d := inMemory(t, parts.Places{})
				d.watches = test.watched
				d.target.Host = name // the memory is the process's
				c := newConn(parts.Buffered(near), test.way, nil)
				c.remote = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443}
				c.read.Store(c.now()) // as prove does
				if !d.keep(opened{conn: c, lesson: lesson{way: test.way}}) {
					t.Fatal("it wasn't kept")
				}
				go func() { _, _ = io.Copy(io.Discard, far) }() // until it is closed
				test.use(t, c, far)
				_ = c.Close() // it may be closed
				if known := recall(d.where(), time.Now()); (known.silent != "") != test.silent {
					t.Errorf("%+v", known)
				}
				d.Close()
				parts.Elapse(time.Minute) // the buffers' goroutines
			})
		})
	}
}

// idle writes a frame that nothing answers, and long afterwards reads the end of the connection.
func idle(end error) func(*testing.T, *conn, net.Conn) {
	return func(t *testing.T, c *conn, _ net.Conn) {
		write(t, c)
		parts.Elapse(12 * time.Second)
		c.Conn = ending{c.Conn, end}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("it goes on")
		}
	}
}

// An ending connection has been ended.
type ending struct {
	net.Conn
	err error
}

func (e ending) Read([]byte) (int, error) { return 0, e.err }

// TestClockSetBack: a clock that is set back hides no silence.
func TestClockSetBack(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := newConn(parts.Buffered(near), GRPC, nil)
	defer c.Close()
	// The connection has begun when the clock was an hour ahead. In a time.Time with a monotonic
	// clock, the seconds are above 30 bits of nanoseconds.
	before := c.began
	*(*uint64)(unsafe.Pointer(&c.began)) += 3600 << 30 // no function moves one of the clocks only
	if c.began.Round(0).Sub(before.Round(0)) != time.Hour || c.began.Sub(before) != 0 {
		t.Fatalf("%v was %v", c.began, before)
	}
	go func() { _, _ = io.Copy(far, far) }() // until it is closed
	write(t, c)
	if age := time.Duration(c.now() - c.asked.Load()); age < 0 || age > time.Minute {
		t.Errorf("it was written %v ago", age)
	}
	if _, err := io.ReadFull(c, make([]byte, len(goAway))); err != nil {
		t.Fatal(err)
	}
	if age := time.Duration(c.now() - c.read.Load()); age < 0 || age > time.Minute {
		t.Errorf("it was read %v ago", age)
	}
	write(t, c)
	c.read.Add(-int64(pingAfter))
	c.asked.Add(-int64(pingAfter))
	if !c.silent() {
		t.Error("it isn't silent")
	}
}

func write(t *testing.T, c *conn) {
	t.Helper()
	if _, err := c.Write(goAway); err != nil {
		t.Error(err)
	}
}

// inMemory returns a Dialer of an edge in a network in memory.
func inMemory(t testing.TB, places parts.Places, opts ...Option) *Dialer {
	t.Helper()
	d, err := NewDialer("http://edge.example.com", append([]Option{WithProxy("none"), func(d *Dialer) error {
		d.net.Dialer = places.Dial
		return nil
	}}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}
