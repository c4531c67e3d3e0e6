package websocket

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/buffer"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A line is the connection under a WebSocket, with the layer between its frames and
// the kernel. Frames that follow one another leave together, and waiting input is
// read with one system call.
type line struct {
	conn  net.Conn
	plain net.Conn       // the socket, if nothing is between; else nil
	pool  mem.BufferPool // of what is read
	out   mem.BufferPool // of held

	received   atomic.Int64  // bytes
	heard      atomic.Int64  // when the client was last heard, since begun
	begun      time.Time     // when the WebSocket was taken over
	sent       atomic.Uint64 // bytes of messages
	sentBefore atomic.Uint64 // those before the client was last heard

	// Only the reader uses these.
	reader *socket.Reader // nil: it holds own while it waits
	own    []byte
	lent   *[]byte // the pool's; nil: none
	unread []byte  // of own or lent

	mu     sync.Mutex  // held for a whole frame, so that no other frame gets inside
	held   *[]byte     // whole frames that leave with the next; nil: none
	large  *largeWrite // of writeLarge; nil: it hasn't run yet
	header [maxFrameHeader]byte
	masks  *masks      // of a client; nil: a server's frames have none
	lost   atomic.Bool // a write failed

	ended     atomic.Bool // the close frame is decided: no message may follow it
	closeLate atomic.Bool // it waits for the line
	closeCode StatusCode
	closeText string
}

// ownBytes is the buffer of a connection that can't be read without one.
const ownBytes = 4 << 10

// maxHeld bounds the messages that wait for more to follow, and those that are
// joined.
const maxHeld = 32 << 10

// newLine takes a connection over, with its unread bytes.
func newLine(conn net.Conn, pool mem.BufferPool, unread []byte) *line {
	l := &line{begun: time.Now(), conn: conn, plain: socket.Plain(conn), pool: pool, out: pool, reader: socket.NewReader(conn, pool)}
	if len(unread) > 0 {
		l.lent = pool.Get(len(unread))
		l.unread = *l.lent
		copy(l.unread, unread)
	}
	return l
}

// directBytes is the size from which a read goes straight to its destination, without
// a copy.
const directBytes = 16 << 10

// fill waits for bytes. If p is large, it returns how many are in p; else they are
// unread, and it holds no pooled buffer while it waits. Nothing is unread when it is
// called.
func (l *line) fill(p []byte) (direct int, err error) {
	switch {
	case len(p) >= directBytes:
		direct, err = l.conn.Read(p)
	case l.reader != nil:
		if l.lent, err = l.reader.Read(); err == nil {
			l.unread = *l.lent
		}
	default:
		if l.own == nil {
			l.own = make([]byte, ownBytes)
		}
		var n int
		n, err = l.conn.Read(l.own)
		l.unread = l.own[:n]
	}
	n := direct + len(l.unread)
	if n > 0 {
		err = nil // it comes again
		l.received.Add(int64(n))
		l.heard.Store(int64(time.Since(l.begun)))
		l.sentBefore.Store(l.sent.Load())
	}
	return direct, err
}

func (l *line) consume(n int) {
	l.unread = l.unread[n:]
	if len(l.unread) == 0 && l.lent != nil {
		l.pool.Put(l.lent)
		l.lent, l.unread = nil, nil
	}
}

// sendClose sends a close frame, unless one was decided already, after the held
// messages. The write deadline bounds it.
func (l *line) sendClose(code StatusCode, reason string) error {
	l.sayClose(code, reason)
	l.mu.Lock()
	defer l.abandon()
	return l.unlock()
}

// abandon unlocks the line for a panic, which has left it locked, and lets the panic go on:
// nothing can follow half a frame. It must be deferred itself.
func (l *line) abandon() {
	if v := recover(); v != nil {
		l.lost.Store(true)
		l.held = nil
		l.mu.Unlock()
		panic(v)
	}
}

// answerClose is sendClose for the reader, which must not wait for the line: if the
// line isn't free, the next writer sends the close frame.
func (l *line) answerClose(code StatusCode) {
	l.sayClose(code, "")
	if l.mu.TryLock() {
		defer l.abandon()
		l.leave()
	}
}

func (l *line) sayClose(code StatusCode, reason string) {
	if !l.ended.Swap(true) {
		l.closeCode, l.closeText = code, reason
		l.closeLate.Store(true)
	}
}

// unlock sends a close frame that was decided meanwhile, after the written data.
func (l *line) unlock() error {
	for {
		err := l.sendLate()
		l.mu.Unlock()
		if err != nil || !l.closeLate.Load() || !l.mu.TryLock() {
			return err
		}
	}
}

// leave is unlock for callers that must not wait for the line.
func (l *line) leave() {
	for {
		late := l.closeLate.Load()
		if late && l.free() {
			_ = l.sendLate() // lost remembers it
		}
		l.mu.Unlock()
		if late || !l.closeLate.Load() || !l.mu.TryLock() {
			return
		}
	}
}

func (l *line) sendLate() error {
	if !l.closeLate.CompareAndSwap(true, false) {
		return nil
	}
	var payload []byte
	if l.closeCode != StatusNoStatusRcvd {
		payload = binary.BigEndian.AppendUint16(nil, uint16(l.closeCode))
		payload = append(payload, l.closeText...)
	}
	l.holdFrame(opClose, payload)
	return l.flush()
}

// message writes one message, given in pieces; between large ones it calls
// wrote. If more follows at once, the message may wait for that.
func (l *line) message(kind Opcode, wrote func(), more bool, pieces [][]byte) error {
	if l.ended.Load() || l.lost.Load() {
		return net.ErrClosed // RFC 6455 §5.5.1; and nothing can follow half a frame
	}
	length := 0
	for _, p := range pieces {
		length += len(p)
	}
	l.sent.Add(uint64(length) + 1) // an empty one is something
	if l.masks != nil {
		return l.masked(kind, wrote, more, length, pieces)
	}
	head := appendFrameHeader(l.header[:0], kind, length)
	size := len(head) + length
	if size > maxHeld || l.plain != nil && buffer.Len(l.held)+size > maxHeld { // TLS would send each piece alone
		return l.writeLarge(wrote, head, pieces)
	}
	if have := buffer.Len(l.held); have > 0 && have+size > burstBytes {
		l.reserve(maxHeld - have)
	}
	l.reserve(size)
	l.hold(head)
	for _, p := range pieces {
		l.hold(p)
	}
	if more && len(*l.held) < maxHeld {
		return nil
	}
	return l.flush()
}

// masked is message for a client. It copies all pieces: their masks are put on the copy.
func (l *line) masked(kind Opcode, wrote func(), more bool, length int, pieces [][]byte) error {
	l.reserve(maxHead + min(length, maxWriteBytes))
	l.hold(l.masks.head(kind, length))
	for _, p := range pieces {
		for len(p) > 0 {
			if len(*l.held) >= maxWriteBytes {
				if err := l.flush(); err != nil {
					return err
				}
				if wrote != nil {
					wrote()
				}
				l.reserve(min(length, maxWriteBytes))
			}
			n := min(len(p), maxWriteBytes-len(*l.held))
			l.holdMasked(p[:n])
			p, length = p[n:], length-n
		}
	}
	if more && len(*l.held) < maxHeld {
		return nil
	}
	return l.flush()
}

// holdFrame holds a frame of few bytes.
func (l *line) holdFrame(op Opcode, payload []byte) {
	if l.masks != nil {
		l.hold(l.masks.head(op, len(payload)))
		l.holdMasked(payload)
		return
	}
	l.reserve(2 + len(payload))
	l.hold(appendFrameHeader(l.header[:0], op, len(payload)))
	l.hold(payload)
}

// holdMasked holds payload of a client's frame with its mask.
func (l *line) holdMasked(b []byte) {
	l.reserve(len(b))
	at := len(*l.held)
	*l.held = (*l.held)[:at+len(b)]
	l.masks.mask = unmask((*l.held)[at:], b, l.masks.mask)
}

// burstBytes is from how many held bytes on many messages are expected: they get their room at
// once.
const burstBytes = 4 << 10

// reserve makes room for n more bytes in held.
func (l *line) reserve(n int) { l.held = buffer.WithRoom(l.out, l.held, n) }

func (l *line) hold(b []byte) {
	l.reserve(len(b))
	*l.held = append(*l.held, b...)
}

// free reports whether a control frame could be written at once: neither the kernel
// nor a held message is in its way. mu is held.
func (l *line) free() bool { return l.held == nil && socket.Writable(l.conn) }

// waiting returns how many bytes are held.
func (l *line) waiting() int {
	l.mu.Lock()
	defer l.abandon()
	n := buffer.Len(l.held)
	_ = l.unlock() // lost remembers it
	return n
}

func (l *line) flush() error {
	if l.held == nil {
		return nil
	}
	err := net.ErrClosed // nothing can follow an incomplete frame
	if !l.lost.Load() {
		var n int
		if n, err = l.conn.Write(*l.held); err != nil && l.plain != nil {
			_, err = socket.WriteLate(l.plain, *l.held, n, err)
		}
	}
	l.out.Put(l.held)
	l.held = nil
	if err != nil {
		l.lost.Store(true)
	}
	return err
}

// A largeWrite is what writeLarge writes. A line keeps it, so that no message needs an allocation.
type largeWrite struct {
	usual [3][]byte   // the held frames, a header and a message
	next  net.Buffers // those that leave with one call
}

// writeLarge writes the held frames, a frame's header and the pieces without joining them.
func (l *line) writeLarge(wrote func(), head []byte, message [][]byte) error {
	if l.large == nil {
		l.large = new(largeWrite)
	}
	defer func() { *l.large = largeWrite{} }() // the bytes belong to others
	pieces := l.large.usual[:0]
	if l.held != nil {
		pieces = append(pieces, *l.held)
		defer func() {
			l.out.Put(l.held)
			l.held = nil
		}()
	}
	pieces = append(append(pieces, head), message...)
	to := l.conn
	if l.plain != nil {
		to = l.plain // net.Buffers recognizes only a socket
	}
	for len(pieces) > 0 {
		n, size := 0, 0
		for n < len(pieces) && size < maxWriteBytes {
			size += len(pieces[n])
			n++
		}
		l.large.next = pieces[:n]
		if _, err := socket.WriteAll(to, &l.large.next); err != nil {
			l.lost.Store(true)
			return err
		}
		pieces = pieces[n:]
		if wrote != nil {
			wrote()
		}
	}
	return nil
}

// maxWriteBytes is roughly how much is written before wrote is called.
const maxWriteBytes = 256 << 10
