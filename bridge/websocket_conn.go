package bridge

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/buffer"
	"github.com/culvert-grpc/culvert/bridge/socket"
)

// A socketConn is the connection under a WebSocket. Frames that follow one
// another go out together, and what is at hand comes in with one system call.
type socketConn struct {
	net.Conn
	pool  mem.BufferPool
	plain bool // TCP and nothing between

	received atomic.Int64 // bytes

	// The reader's own.
	socket *socket.Reader // nil: it holds own while it waits
	own    []byte
	lent   *[]byte // the pool's; nil: none
	unread []byte  // of own or lent

	mu     sync.Mutex // held for a whole frame, so that no other gets into it
	held   *[]byte    // whole frames that go out with the next; nil: none
	header [maxFrameHeader]byte
	lost   atomic.Bool // a write failed

	ended     atomic.Bool // the close frame is said: no message may follow it
	closeLate atomic.Bool // it waits for the line
	closeCode websocket.StatusCode
}

// ownBytes is the buffer of a connection that can't be read without one.
const ownBytes = 4 << 10

// newSocketConn takes a connection over, with what was read of it already.
func newSocketConn(conn net.Conn, pool mem.BufferPool, unread []byte) *socketConn {
	_, plain := conn.(*clientConn)
	c := &socketConn{Conn: conn, pool: pool, plain: plain}
	if plain {
		c.socket = socket.NewReader(conn, pool)
	}
	if len(unread) > 0 {
		c.lent = pool.Get(len(unread))
		c.unread = *c.lent
		copy(c.unread, unread)
	}
	return c
}

// NetConn is the connection under it.
func (c *socketConn) NetConn() net.Conn { return c.Conn }

// directBytes is how much is read without what follows it, and so not copied.
const directBytes = 16 << 10

// fill waits for bytes: if p is large, it returns how many are in p, else they
// are unread, and no buffer of the pool's is held while it waits. Nothing is
// unread when it is called.
func (c *socketConn) fill(p []byte) (direct int, err error) {
	switch {
	case len(p) >= directBytes:
		direct, err = c.Conn.Read(p)
	case c.socket != nil:
		if c.lent, err = c.socket.Read(); err == nil {
			c.unread = *c.lent
		}
	default:
		if c.own == nil {
			c.own = make([]byte, ownBytes)
		}
		var n int
		n, err = c.Conn.Read(c.own)
		c.unread = c.own[:n]
	}
	n := direct + len(c.unread)
	if n > 0 {
		err = nil // it comes again
	}
	c.received.Add(int64(n))
	return direct, err
}

// consume takes n bytes off what is unread.
func (c *socketConn) consume(n int) {
	c.unread = c.unread[n:]
	if len(c.unread) == 0 && c.lent != nil {
		c.pool.Put(c.lent)
		c.lent, c.unread = nil, nil
	}
}

// sendClose says that nothing more comes, if nobody has said so, and sends what
// is held. The write deadline bounds it.
func (c *socketConn) sendClose(code websocket.StatusCode) error {
	c.sayClose(code)
	c.mu.Lock()
	return c.unlock()
}

// answerClose is sendClose for whoever reads, who mustn't wait for the line: if
// that isn't free, the one who writes next sends the close frame.
func (c *socketConn) answerClose(code websocket.StatusCode) {
	c.sayClose(code)
	if c.mu.TryLock() {
		c.leave()
	}
}

func (c *socketConn) sayClose(code websocket.StatusCode) {
	if !c.ended.Swap(true) {
		c.closeCode = code
		c.closeLate.Store(true)
	}
}

// unlock sends the close frame that was said meanwhile, behind what is written.
func (c *socketConn) unlock() error {
	for {
		err := c.sendLate()
		c.mu.Unlock()
		if err != nil || !c.closeLate.Load() || !c.mu.TryLock() {
			return err
		}
	}
}

// leave is unlock for who mustn't wait for the line.
func (c *socketConn) leave() {
	for {
		late := c.closeLate.Load()
		if late && c.free() {
			_ = c.sendLate() // lost remembers it
		}
		c.mu.Unlock()
		if late || !c.closeLate.Load() || !c.mu.TryLock() {
			return
		}
	}
}

func (c *socketConn) sendLate() error {
	if !c.closeLate.CompareAndSwap(true, false) {
		return nil
	}
	var payload []byte
	if c.closeCode != websocket.StatusNoStatusRcvd {
		payload = binary.BigEndian.AppendUint16(nil, uint16(c.closeCode))
	}
	c.hold(appendControl(nil, opClose, payload))
	return c.flush()
}

// message writes one binary message, given in pieces; between large ones it
// calls wrote. If more follows at once, the message may wait for that.
func (c *socketConn) message(wrote func(), more bool, pieces [][]byte) error {
	if c.ended.Load() || c.lost.Load() {
		return net.ErrClosed // RFC 6455 §5.5.1; and nothing can follow half a frame
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

// reserve makes room for n bytes more in held.
func (c *socketConn) reserve(n int) { c.held = buffer.WithRoom(c.pool, c.held, n) }

func (c *socketConn) hold(b []byte) {
	c.reserve(len(b))
	*c.held = append(*c.held, b...)
}

// free holds when a control frame would be taken at once: neither the kernel
// nor a message that is held is in its way. mu is held.
func (c *socketConn) free() bool { return c.held == nil && socket.Writable(c.Conn) }

// waiting is how much is held.
func (c *socketConn) waiting() int {
	c.mu.Lock()
	defer func() { _ = c.unlock() }() // lost remembers it
	return buffer.Len(c.held)
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
