package h2

import (
	"bytes"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// maxOutput is how many bytes may wait to be written before streams must wait. A frame
// that begins below it is appended whole.
const maxOutput = 64 << 10

type box struct{ b []byte }

const (
	maxKeptBox = 128 << 10 // the largest capacity of a box that is used again
	smallBox   = 4 << 10   // the largest capacity of a small one
)

// boxes has the small boxes, and largeBoxes the others. In one pool every box would become
// large in time, since frames without data take turns with data.
var boxes, largeBoxes = sync.Pool{New: newBox}, sync.Pool{New: newBox}

func newBox() any { return new(box) }

func (b *box) free() {
	b.b = b.b[:0]
	switch size := cap(b.b); {
	case size <= smallBox:
		boxes.Put(b)
	case size <= maxKeptBox:
		largeBoxes.Put(b)
	}
}

// An output has the frames to send, in the order in which they leave.
type output struct {
	box         *box    // nil: nothing
	first, last *stream // the streams that wait for room or for the writer
	write       func()  // conn.write: made once, since each method value is an allocation
	writing     bool    // a goroutine is writing
	rest        *box    // what the writer begins with; nil: nothing else than the frames
	acks        int     // answers in the box that the client required
	later       alarm   // flushes the waiting frames

	enc   *hpack.Encoder
	block bytes.Buffer // the output of enc
}

func (o *output) init() {
	o.enc = hpack.NewEncoder(&o.block)
	o.enc.SetMaxDynamicTableSizeLimit(headerTableBytes)
}

func (o *output) size() int {
	if o.box == nil {
		return 0
	}
	return len(o.box.b)
}

func (o *output) release() {
	if o.box != nil {
		o.box.free()
		o.box = nil
	}
}

// frames returns the box to which frames are appended. The caller holds mu.
func (c *conn) frames() *box {
	if c.out.box == nil {
		c.out.box = boxes.Get().(*box)
	}
	return c.out.box
}

// framesFor is frames for a frame with n bytes of data: a small box doesn't grow for them.
// The caller holds mu.
func (c *conn) framesFor(n int) *box {
	small := c.frames()
	if cap(small.b) > smallBox || len(small.b)+frameHeaderBytes+n <= smallBox {
		return small
	}
	c.out.box = largeBoxes.Get().(*box)
	c.out.box.b = append(c.out.box.b, small.b...)
	small.free()
	return c.out.box
}

// room reports whether a frame may be appended for a stream.
func (c *conn) room() bool { return c.out.size() < maxOutput }

// unbox returns the box to write, or nil. The caller holds mu.
func (c *conn) unbox() *box {
	for c.out.first != nil && c.room() {
		c.sendReady()
	}
	if !c.out.later.at.IsZero() {
		c.setAlarm(&c.out.later, time.Time{}, nil)
	}
	b := c.out.box
	c.out.box, c.out.acks = nil, 0
	return b
}

// answerDelay is how long the answers to a client's pings and settings wait for the
// handler's answer to the data that came with them. grpc-go pings with data to estimate
// its window, and each answer alone would be a write. A busy backend takes
// milliseconds.
const answerDelay = 5 * time.Millisecond

// flushLater writes the queued frames after answerDelay, or with the next flush. It
// returns false if a writer is running or a stream waits to send: then the caller
// flushes. The caller holds mu.
func (c *conn) flushLater() bool {
	if c.out.writing || c.closed || c.out.first != nil {
		return false
	}
	if c.out.box != nil && c.out.later.at.IsZero() {
		c.setAlarm(&c.out.later, time.Now().Add(answerDelay), c.releaseToFlush)
	}
	return true
}

// releaseToFlush writes the queued frames. The caller holds mu. The function releases
// mu while it writes and takes it again before it returns, so values that the caller
// read under mu may have changed.
func (c *conn) releaseToFlush() {
	if c.out.writing || c.closed || c.goodbye.stage == stageShut || c.out.box == nil && c.out.first == nil {
		return
	}
	if c.try == nil || len(c.streams) > 1 {
		c.startWriter(nil) // others may add frames meanwhile
		return
	}
	b := c.unbox()
	if b == nil {
		return
	}
	c.out.writing = true
	n, err := c.releaseToTry(b.b)
	c.out.writing = false
	switch {
	case err != nil:
		c.out.writing = true // for ever
		c.cut(c.goodbye.end) // the client has gone away
	case n < len(b.b):
		b.b = append(b.b[:0], b.b[n:]...)
		c.startWriter(b)
	default:
		b.free()
		if c.out.box != nil || c.out.first != nil || c.goodbye.stage == stageEnding {
			c.startWriter(nil)
		}
	}
}

// releaseToTry writes as much as it can without waiting. The caller holds mu, which is free
// meanwhile.
func (c *conn) releaseToTry(b []byte) (n int, err error) {
	c.mu.Unlock()
	defer c.mu.Lock()
	defer func() {
		if v := recover(); v != nil {
			c.tellPanic(v)
			err = net.ErrClosed // nothing can follow half a frame
		}
	}()
	return c.try(b)
}

// releaseToCloseWrite closes the sending side without holding mu.
func (c *conn) releaseToCloseWrite() {
	c.mu.Unlock()
	defer c.mu.Lock()
	defer c.catch()
	_ = socket.CloseWrite(c.nc) // the client may be gone
}

// startWriter starts the goroutine that writes b, and then all waiting frames. The
// caller holds mu.
func (c *conn) startWriter(b *box) {
	if c.out.writing || c.closed || c.goodbye.stage == stageShut {
		return
	}
	c.out.writing, c.out.rest = true, b
	c.goroutines.Add(1)
	go c.out.write()
}

// write is the writer. It ends when nothing is left to write.
func (c *conn) write() {
	defer c.goroutines.Done()
	defer c.catch()
	for {
		b := c.nextBox()
		if b == nil {
			return
		}
		if _, err := c.nc.Write(b.b); err != nil {
			_ = c.nc.Close() // the reader notices the close and ends the rest; writing stays set
			return
		}
		b.free()
	}
}

// nextBox returns the next box to write, or nil when the writer has ended.
func (c *conn) nextBox() *box {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.out.rest; b != nil {
		c.out.rest = nil
		return b
	}
	if len(c.streams) > 1 && c.room() {
		c.mu.Unlock()
		runtime.Gosched() // frames that others are about to add leave with it
		c.mu.Lock()
	}
	b := c.unbox()
	if b != nil {
		return b
	}
	c.out.writing = false
	if c.goodbye.stage == stageEnding {
		c.goodbye.stage = stageShut
		c.releaseToCloseWrite()
		c.closeSoon()
	}
	return nil
}

// appendFields appends a header block. The caller holds mu.
func (c *conn) appendFields(id uint32, fields []hpack.HeaderField, end bool) {
	o := &c.out
	for _, f := range fields {
		_ = o.enc.WriteField(f) // to memory
	}
	c.sent += uint64(o.block.Len())
	f := c.frames()
	f.b = appendBlock(f.b, id, o.block.Bytes(), maxFrameBytes, end)
	if o.block.Cap() > 4<<10 {
		o.block = bytes.Buffer{}
		return
	}
	o.block.Reset()
}

// appendData appends a DATA frame with n bytes of a stream's pending data, and takes
// them from both windows. The caller holds mu.
func (c *conn) appendData(st *stream, n int, end bool) {
	h := frameHeader{length: n, kind: http2.FrameData, stream: st.id}
	if end {
		h.flags = http2.FlagDataEndStream
	}
	f := c.framesFor(n)
	f.b = h.appendTo(f.b)
	p := &st.pending
	k := min(n, len(p.head))
	f.b = append(append(f.b, p.head[:k]...), p.data[:n-k]...)
	p.head, p.data = p.head[k:], p.data[n-k:]
	st.part = st.part || n > 0
	st.window -= outflow(n)
	c.send -= outflow(n)
	c.sent += uint64(n)
	if n >= dribbleBytes || p.size() == 0 {
		c.useless.Earn(framesForData, maxEarned)
	}
}
