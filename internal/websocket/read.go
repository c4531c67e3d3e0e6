package websocket

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/internal/flood"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A messageSource has the reader's state within a message. RFC 6455 §5.4.
type messageSource struct {
	turn  turn
	err   error  // nothing can be read any more
	open  bool   // a message has begun and was not read to its end
	final bool   // the frame is the message's last
	plain bool   // the peer is a server, whose frames have no masks
	left  uint64 // of the frame
	mask  uint32 // of what is left

	head [maxHead + maxControl]byte // the header of the current frame, and a control frame's payload
	have int                        // bytes of head: a deadline may pass inside it

	useless flood.Allowance // frames that carry nothing
}

// The bounds for frames that carry nothing: pings and pongs that nobody asked for,
// fragments of a few bytes. They are the same as in HTTP/2.
const (
	maxUselessFrames = 10_000
	uselessFrameRate = 1000 // a second
	fewFrameBytes    = 5    // this many bytes or fewer are few: a gRPC message has one byte more, its marker
	framesForMore    = 4    // frames that one frame with content makes up for
)

// countFrame bounds the frames that carry nothing. The caller has the turn.
func (c *Conn) countFrame(h frameHead) error {
	u := &c.in.useless
	if !h.control() && h.length > fewFrameBytes {
		u.Earn(framesForMore, 0)
		return nil
	}
	if u.Spend(1, time.Now(), maxUselessFrames, uselessFrameRate) {
		return nil
	}
	return c.misread(StatusPolicyViolation, "too many frames that carry nothing")
}

// One reader at a time has the turn. It isn't a mutex, since a Close may wait for it
// as long as the client does.
type turn struct {
	mu    sync.Mutex
	ended sync.Cond
	taken bool
}

func (t *turn) take() {
	t.mu.Lock()
	for t.taken {
		t.ended.Wait()
	}
	t.taken = true
	t.mu.Unlock()
}

func (t *turn) end() {
	t.mu.Lock()
	t.taken = false
	t.ended.Signal()
	t.mu.Unlock()
}

// NextMessage waits for the next message, and answers control frames meanwhile. The
// message before must have been read to its end. A close frame is an error with a
// CloseStatus, a broken rule a RuleError; both are answered with a close frame, by
// the next writer if the line isn't free. The end of the connection is
// io.ErrUnexpectedEOF. After these every read returns the same error. A deadline that
// passes loses nothing, and the next read continues.
func (c *Conn) NextMessage() (Opcode, error) {
	c.in.turn.take()
	defer c.in.turn.end()
	h, err := c.nextFrame()
	if err != nil {
		return 0, err
	}
	if h.op == opContinuation {
		return 0, c.misread(StatusProtocolError, "a continuation frame outside a message")
	}
	c.in.open = true
	c.in.begin(h)
	return h.op, nil
}

// Read reads from the message that NextMessage found. Its end is io.EOF, which comes
// with the last bytes if the end is known; other errors are those of NextMessage.
func (c *Conn) Read(p []byte) (int, error) {
	m := &c.in
	m.turn.take()
	defer m.turn.end()
	for {
		switch {
		case m.err != nil:
			return 0, m.err
		case !m.open || m.over():
			return 0, io.EOF
		case m.left > 0:
			n, err := c.readPayload(p)
			if err == nil && m.over() {
				err = io.EOF
			}
			return n, err
		}
		h, err := c.nextFrame()
		if err != nil {
			return 0, err
		}
		if h.op != opContinuation {
			return 0, c.misread(StatusProtocolError, "a new message inside a fragmented one")
		}
		m.begin(h)
	}
}

// Length returns how many bytes the message that NextMessage found has, if the header of
// its first frame tells: of a message in several frames it is not known.
func (c *Conn) Length() (n int64, known bool) {
	c.in.turn.take()
	defer c.in.turn.end()
	return int64(c.in.left), c.in.final // at most maxFrame
}

func (m *messageSource) begin(h frameHead) { m.final, m.left, m.mask = h.final, h.length, h.mask }

func (m *messageSource) over() bool {
	if m.left == 0 && m.final {
		m.open = false
	}
	return !m.open
}

// readPayload reads from the frame, of which some bytes are left. The caller has the
// turn.
func (c *Conn) readPayload(p []byte) (int, error) {
	m := &c.in
	if uint64(len(p)) > m.left {
		p = p[:m.left]
	}
	n, err := c.fill(p)
	if err != nil {
		return 0, err
	}
	if n > 0 {
		m.unmask(p[:n], p[:n])
	} else {
		n = min(len(p), len(c.line.unread))
		m.unmask(p[:n], c.line.unread[:n])
		c.line.consume(n)
	}
	m.left -= uint64(n)
	return n, nil
}

// unmask sets dst to the next bytes of the frame, src, without the frame's mask.
func (m *messageSource) unmask(dst, src []byte) {
	if m.plain {
		copy(dst, src)
		return
	}
	m.mask = unmask(dst, src, m.mask)
}

// nextFrame waits for a frame that isn't a control frame. The caller has the
// turn.
func (c *Conn) nextFrame() (frameHead, error) {
	for c.in.err == nil {
		h, size, err := c.readHead()
		if err == nil {
			err = c.countFrame(h)
		}
		if err != nil {
			return h, err
		}
		if !h.control() {
			c.in.have = 0
			return h, nil
		}
		if err := c.await(size + int(h.length)); err != nil {
			return h, err
		}
		c.in.have = 0
		payload := c.in.head[size:][:h.length]
		if !c.in.plain {
			unmask(payload, payload, h.mask)
		}
		if err := c.control(h.op, payload); err != nil {
			return h, err
		}
	}
	return frameHead{}, c.in.err
}

// readHead waits for a whole header, and returns its size. It reads the bytes that
// arrived before a deadline again.
func (c *Conn) readHead() (h frameHead, size int, err error) {
	if err := c.await(2); err != nil {
		return h, 0, err
	}
	b := c.in.head[:]
	h, more, broken := startHead(b[0], b[1], !c.in.plain)
	if broken != "" {
		return h, 0, c.misread(StatusProtocolError, broken)
	}
	if err := c.await(2 + more); err != nil {
		return h, 0, err
	}
	if broken := h.setLength(b[2:][:more]); broken != "" {
		return h, 0, c.misread(StatusProtocolError, broken)
	}
	if h.length > maxFrame {
		return h, 0, c.misread(StatusMessageTooBig, "a frame of more than 4 GiB")
	}
	size = 2 + more
	if c.in.plain {
		return h, size, nil
	}
	size += 4
	if err := c.await(size); err != nil {
		return h, 0, err
	}
	h.mask = binary.LittleEndian.Uint32(b[2+more:])
	return h, size, nil
}

// control processes a control frame: a pong has been counted as received bytes, and a
// ping or a close is answered. RFC 6455 §5.5.
func (c *Conn) control(op Opcode, payload []byte) error {
	switch op {
	case opPing:
		c.answer(payload)
	case opClose:
		told, broken := parseClose(payload)
		if broken != "" {
			return c.misread(told.Code, broken)
		}
		c.in.err = told
		c.line.answerClose(told.Code)
		return told
	}
	return nil
}

// misread ends the reading: after a broken rule, the start of the next frame is
// unknown. RFC 6455 §7.1.7. The caller has the turn.
func (c *Conn) misread(code StatusCode, broken string) error {
	c.in.err = RuleError{code, broken}
	c.line.answerClose(code)
	return c.in.err
}

// await fills the head to n bytes, which stay there if it fails. The caller
// has the turn.
func (c *Conn) await(n int) error {
	m := &c.in
	for m.have < n {
		if _, err := c.fill(nil); err != nil {
			return err
		}
		took := copy(m.head[m.have:n], c.line.unread)
		c.line.consume(took)
		m.have += took
	}
	return nil
}

// fill reads until something is unread or, if p is large, something is in p. The
// caller has the turn.
func (c *Conn) fill(p []byte) (direct int, err error) {
	if len(c.line.unread) > 0 {
		return 0, nil
	}
	c.reading.Store(true)
	defer c.reading.Store(false)
	direct, err = c.line.fill(p)
	for socket.TimedOut(err) && c.settleDoubt() {
		direct, err = c.line.fill(p)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // a WebSocket ends with a close frame
		if c.in.err == nil {
			c.in.err = err
		}
	}
	return direct, err
}

// awaitClose reads until the client's close frame, or until nothing can be read any
// more, and drops messages before it. It returns false if only the read deadline has
// passed.
func (c *Conn) awaitClose() bool {
	m := &c.in
	m.turn.take()
	defer m.turn.end()
	for m.err == nil {
		if m.left == 0 {
			h, err := c.nextFrame()
			if err != nil {
				return !socket.TimedOut(err)
			}
			m.begin(h)
			continue
		}
		if _, err := c.fill(nil); err != nil {
			return !socket.TimedOut(err)
		}
		n := int(min(uint64(len(c.line.unread)), m.left))
		m.left -= uint64(n)
		c.line.consume(n)
	}
	return true
}

// awaitEnd reads until the server closes the connection, which a client leaves to it, or
// until the read deadline. RFC 6455 §7.1.1.
func (c *Conn) awaitEnd() {
	c.in.turn.take()
	defer c.in.turn.end()
	for {
		c.line.consume(len(c.line.unread))
		if _, err := c.fill(nil); err != nil {
			return
		}
	}
}
