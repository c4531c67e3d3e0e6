package bridge

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// A socketConn is the connection under a WebSocket. Binary messages are
// written here and not by coder/websocket, which makes a system call of each:
// those that follow one another go out together.
type socketConn struct {
	net.Conn
	pool  mem.BufferPool
	plain bool // TCP and nothing between

	received atomic.Int64 // bytes
	failed   atomic.Bool  // coder/websocket takes a cut inside a message for the message's end

	brimful bool    // Read's own: the last read filled its buffer
	lent    *[]byte // likewise; nil: none
	unread  []byte  // of lent

	mu     sync.Mutex // held for a whole frame, so that no other gets into it
	held   *[]byte    // whole frames that go out with the next; nil: none
	header [maxFrameHeader]byte
	lost   atomic.Bool // a write failed
	ended  atomic.Bool // the close frame was written: no message may follow it

	lateMu  sync.Mutex
	late    []byte // a close frame that waits for the line, or goes out now
	closing bool   // the connection closes after it
}

// Read is for coder/websocket, whose own buffer is as small as an idle
// WebSocket wants it. When that was filled, more is at hand: it is fetched
// into a larger one, which is given back when it is empty.
func (c *socketConn) Read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		return c.takeUnread(p), nil
	}
	if c.plain && c.brimful && len(p) <= maxLentTo {
		c.lent = c.pool.Get(lentBytes)
		n := readNow(c.Conn, *c.lent)
		c.received.Add(int64(n))
		c.brimful = n == lentBytes
		c.unread = (*c.lent)[:n]
		if taken := c.takeUnread(p); taken > 0 {
			return taken, nil
		}
	}
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	c.brimful = n == len(p)
	if err != nil {
		c.failed.Store(true)
	}
	return n, err
}

// Whoever reads into a buffer of more than maxLentTo is lent none.
const (
	maxLentTo = 4 << 10
	lentBytes = 32 << 10
)

func newSocketConn(conn net.Conn, pool mem.BufferPool) *socketConn {
	_, plain := conn.(*clientConn)
	return &socketConn{Conn: conn, pool: pool, plain: plain}
}

func (c *socketConn) takeUnread(p []byte) int {
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	if len(c.unread) == 0 {
		c.pool.Put(c.lent)
		c.lent, c.unread = nil, nil
	}
	return n
}

// NetConn is the connection under it.
func (c *socketConn) NetConn() net.Conn { return c.Conn }

// Write is for coder/websocket's close frame, the only one that it writes. A
// reader that answers a close must not wait for the message that is being
// written, so that writer sends it then.
func (c *socketConn) Write(p []byte) (int, error) {
	c.ended.Store(true)
	c.lateMu.Lock()
	c.late = append(c.late, p...)
	c.lateMu.Unlock()
	if !c.mu.TryLock() {
		return len(p), nil
	}
	if err := c.unlock(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close leaves the closing to the writer that has a close frame to send before
// it. That one is not held up for long: the call has ended.
func (c *socketConn) Close() error {
	c.lateMu.Lock()
	later := len(c.late) > 0
	c.closing = later
	c.lateMu.Unlock()
	if later {
		return nil
	}
	return c.Conn.Close()
}

// unlock sends the close frame that came meanwhile.
func (c *socketConn) unlock() error {
	for {
		err := c.sendLate()
		c.mu.Unlock()
		c.lateMu.Lock()
		more := len(c.late) > 0
		closing := c.closing && !more
		c.lateMu.Unlock()
		if closing {
			_ = c.Conn.Close() // nobody can act on it
		}
		if err != nil || !more || !c.mu.TryLock() {
			return err
		}
	}
}

func (c *socketConn) sendLate() error {
	c.lateMu.Lock()
	late := c.late
	c.lateMu.Unlock()
	if len(late) == 0 {
		return nil
	}
	c.hold(late)
	err := c.flush()
	c.lateMu.Lock()
	c.late = c.late[len(late):]
	c.lateMu.Unlock()
	return err
}

// message writes one binary message, given in pieces; between large ones it
// calls wrote. If more follows at once, the message may wait for that.
func (c *socketConn) message(wrote func(), more bool, pieces [][]byte) error {
	if c.ended.Load() {
		return net.ErrClosed // RFC 6455 §5.5.1
	}
	length := 0
	for _, p := range pieces {
		length += len(p)
	}
	head := appendFrameHeader(c.header[:0], length)
	if len(head)+length > maxWebSocketBuffer {
		return c.writeLarge(wrote, append([][]byte{head}, pieces...))
	}
	c.reserve(len(head) + length)
	c.hold(head)
	for _, p := range pieces {
		c.hold(p)
	}
	if more && len(*c.held) < maxWebSocketBuffer {
		return nil
	}
	return c.flush()
}

// maxFrameHeader is the size of the longest header of a frame without mask.
const maxFrameHeader = 10

// appendFrameHeader begins a server's binary message of one frame. RFC 6455 §5.2.
func appendFrameHeader(b []byte, length int) []byte {
	const finBinary = 0x82
	switch {
	case length < 126:
		return append(b, finBinary, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, finBinary, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(b, finBinary, 127), uint64(length))
	}
}

// reserve makes room for n bytes more in held.
func (c *socketConn) reserve(n int) { c.held = withRoom(c.pool, c.held, n) }

func (c *socketConn) hold(b []byte) {
	c.reserve(len(b))
	*c.held = append(*c.held, b...)
}

// free holds when a control frame would be taken at once: neither the kernel
// nor a message that is held is in its way. mu is held.
func (c *socketConn) free() bool { return c.held == nil && writable(c.Conn) }

// waiting is how much is held.
func (c *socketConn) waiting() int {
	c.mu.Lock()
	defer func() { _ = c.unlock() }() // lost remembers it
	return held(c.held)
}

// flush writes what is held.
func (c *socketConn) flush() error {
	if c.held == nil {
		return nil
	}
	err := net.ErrClosed // nothing can follow a frame that was broken off
	if !c.lost.Load() {
		_, err = c.Conn.Write(*c.held)
	}
	c.pool.Put(c.held)
	c.held = nil
	if err != nil {
		c.lost.Store(true)
	}
	return err
}

// writeLarge writes what is held and the pieces without joining them.
func (c *socketConn) writeLarge(wrote func(), pieces [][]byte) error {
	if c.held != nil {
		pieces = slices.Insert(pieces, 0, *c.held)
		defer func() {
			c.pool.Put(c.held)
			c.held = nil
		}()
	}
	to := c.Conn
	if c.plain {
		to = c.Conn.(*clientConn).Conn // net.Buffers knows a TCP connection, and no other
	}
	for len(pieces) > 0 {
		n, size := 0, 0
		for n < len(pieces) && size < maxWriteBytes {
			size += len(pieces[n])
			n++
		}
		group := net.Buffers(pieces[:n])
		if _, err := group.WriteTo(to); err != nil {
			c.lost.Store(true)
			return err
		}
		pieces = pieces[n:]
		if wrote != nil {
			wrote()
		}
	}
	return nil
}

// maxWriteBytes is about how much is written before wrote is called.
const maxWriteBytes = 256 << 10
