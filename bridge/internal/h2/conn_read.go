package h2

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// The sizes of input buffers. The large one fits any frame; a connection that receives
// little has a small one.
const (
	smallInput = 4 << 10
	largeInput = 32 << 10
)

var (
	smallInputs = sync.Pool{New: func() any { return new([smallInput]byte) }}
	largeInputs = sync.Pool{New: func() any { return new([largeInput]byte) }}
)

// An input has the bytes that were read and not yet parsed.
type input struct {
	small *[smallInput]byte
	large *[largeInput]byte // used instead, if there
	buf   []byte            // of one of them
	r, w  int               // the bytes in between are unread
	quiet int               // reads in a row for which the small one is large enough
}

// quietReads is how many small reads show that the small buffer is enough.
const quietReads = 16

// fill reads once. It keeps a frame that has begun.
func (in *input) fill(src io.Reader) error {
	if in.r == in.w {
		in.r, in.w = 0, 0
		if in.buf == nil || in.large != nil && in.quiet >= quietReads {
			in.release()
			in.small = smallInputs.Get().(*[smallInput]byte)
			in.buf = in.small[:]
		}
	}
	if in.r > 0 {
		copy(in.buf, in.buf[in.r:in.w])
		in.r, in.w = 0, in.w-in.r
	}
	if in.w == len(in.buf) {
		in.grow()
	}
	n, err := src.Read(in.buf[in.w:])
	switch {
	case in.large == nil && n == len(in.buf)-in.w:
		in.w += n
		in.grow() // more is probably waiting
		return err
	case n < smallInput/2:
		in.quiet++
	default:
		in.quiet = 0
	}
	in.w += n
	return err
}

func (in *input) grow() {
	if in.large != nil {
		panic("BUG: a frame is larger than the input buffer")
	}
	in.large, in.quiet = largeInputs.Get().(*[largeInput]byte), 0
	copy(in.large[:], in.buf[in.r:in.w])
	in.r, in.w = 0, in.w-in.r
	in.buf = in.large[:]
	smallInputs.Put(in.small)
	in.small = nil
}

func (in *input) release() {
	if in.small != nil {
		smallInputs.Put(in.small)
	}
	if in.large != nil {
		largeInputs.Put(in.large)
	}
	in.small, in.large, in.buf = nil, nil, nil
}

// next returns a whole frame and true, or false. The payload is valid until the next
// fill. The header is valid when all of it has arrived.
func (in *input) next() (h frameHeader, payload []byte, whole bool) {
	b := in.buf[in.r:in.w]
	if len(b) < frameHeaderBytes {
		return frameHeader{}, nil, false
	}
	h = parseFrameHeader(b)
	if h.length > maxFrameBytes || len(b) < frameHeaderBytes+h.length {
		return h, nil, false
	}
	in.r += frameHeaderBytes + h.length
	return h, b[frameHeaderBytes : frameHeaderBytes+h.length], true
}

// readFrames reads until the connection is over.
func (c *conn) readFrames() {
	for {
		err := c.in.fill(c)
		if c.noteRead() {
			c.in.r = c.in.w // the client may still be sending
		} else {
			c.parse()
		}
		if err != nil {
			return
		}
	}
}

// noteRead notes that the client was heard, and reports whether the connection is broken.
func (c *conn) noteRead() (broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.clock
	k.read, c.sentBefore = time.Now(), c.sent
	k.pinged, k.missed, k.silence = time.Time{}, time.Time{}, nil
	return c.goodbye.fault != nil
}

// parse processes all complete frames, up to one that ends the connection, and then
// sends the answers that they require.
func (c *conn) parse() {
	data := false
	for {
		h, payload, whole := c.in.next()
		if h.length > maxFrameBytes {
			c.failed(connError{http2.ErrCodeFrameSize, "a frame is larger than allowed"})
			c.in.r = c.in.w
			break
		}
		if !whole {
			c.watchBlock(h.kind == http2.FrameHeaders || h.kind == http2.FrameContinuation || c.block.open)
			break
		}
		data = data || h.kind == http2.FrameData && h.length > 0
		if err := c.take(h, payload); err != nil {
			if e, ok := errors.AsType[connError](err); ok {
				c.failed(e)
				c.in.r = c.in.w
				break
			}
			if !c.refuse(err.(streamError)) { //nolint:errorlint // there is no other kind
				c.in.r = c.in.w
				break
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if data && c.goodbye.stage == stageOpen && c.flushLater() {
		return
	}
	c.releaseToFlush()
}

// refuse resets a stream. It returns false when that ended the connection.
func (c *conn) refuse(e streamError) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if flood, ok := errors.AsType[connError](c.countWasted()); ok {
		c.fail(flood)
		return false
	}
	if st := c.streams[e.stream]; st != nil {
		st.reset(e.code, e)
		return true
	}
	c.ended.add(e.stream, endCut)
	c.answer(func(b []byte) []byte { return appendWord(b, http2.FrameRSTStream, e.stream, uint32(e.code)) })
	return true
}

// answer queues an answer that the client's frame requires. A client can't require more
// answers than it reads.
func (c *conn) answer(frame func(b []byte) []byte) {
	if c.closed || c.goodbye.fault != nil {
		return
	}
	if c.out.acks++; c.out.acks > maxQueuedAcks {
		c.fail(connError{http2.ErrCodeEnhanceYourCalm, "the client asks for answers and doesn't read them"})
		return
	}
	f := c.frames()
	f.b = frame(f.b)
}
