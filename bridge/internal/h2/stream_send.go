package h2

import (
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// pending is the data that a handler waits to have in the connection's buffer. The
// slices belong to the handler, which doesn't touch them while it waits.
type pending struct {
	fields     []hpack.HeaderField // of the header, if it is not sent yet
	head, data []byte
	trailer    []hpack.HeaderField
	end        bool // nothing follows it
	settle     bool // only the end follows it, and needs room
	dropped    bool // it was late, and none of it is sent
}

func (p *pending) size() int { return len(p.head) + len(p.data) }

func (p *pending) empty() bool {
	return p.fields == nil && p.size() == 0 && !p.end && !p.settle
}

// put appends p to the connection's buffer, and waits until that is done. The caller
// holds mu.
func (st *stream) put(p pending) error {
	if st.closed {
		return st.err
	}
	st.pending = p
	if st.c.out.first == nil { // else it is others' turn
		for st.c.room() && st.sendFrame() {
		}
	}
	for !st.pending.empty() && !st.closed {
		st.queue()
		st.c.releaseToFlush()
		if st.pending.empty() || st.closed { // changed while mu was released
			break
		}
		if st.late {
			if st.judgeLate(); st.pending.empty() || st.closed {
				break
			}
		}
		st.waitWritable()
	}
	if st.closed && !st.pending.empty() {
		st.pending = pending{}
		return st.err
	}
	if st.pending.dropped {
		st.pending = pending{}
		return errDropped
	}
	return nil
}

// finish is put for a handler that has returned. It returns false, with the rest pending, if
// that must wait. The caller holds mu.
func (st *stream) finish(p pending) (done bool) {
	if st.closed {
		return true
	}
	st.pending = p
	// After Settle there was room. If others have taken it meanwhile, a short end exceeds it.
	short := st.settled && p.fieldBytes() <= shortEnd
	for (short || st.c.out.first == nil && st.c.room()) && st.sendFrame() {
	}
	return st.pending.empty()
}

// shortEnd is how many bytes of fields may exceed the room. Each stream has one end.
const shortEnd = 1 << 10

func (p *pending) fieldBytes() (n int) {
	for _, fields := range [][]hpack.HeaderField{p.fields, p.trailer} {
		for _, f := range fields {
			n += len(f.Name) + len(f.Value)
		}
	}
	return n
}

// waitBehind waits until the rest of the answer is in the buffer, behind a handler that has
// returned. The owner is told of a stream that waits for its client, so that it can bound what
// such streams hold: without room for one, a client that opens no window gets a reset, and
// another one, which may only be slow, a deadline.
func (st *stream) waitBehind() {
	c := st.c
	switch blocked := st.blockedBehind(); {
	case blocked == notBlocked || c.onLeft == nil:
	case c.onLeft(c.nc, 1):
		defer c.onLeft(c.nc, -1)
	case blocked == byWindow:
		c.mu.Lock()
		defer c.mu.Unlock()
		st.reset(http2.ErrCodeEnhanceYourCalm, errHandlerEnded)
		return
	default:
		st.setWriteDeadline(time.Now().Add(leftTime), false)
	}
	c.tellBusy()
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = st.put(st.pending) // there is nobody to tell
}

// leftTime is how long a stream waits behind its handler if the owner has no room for it.
const leftTime = 5 * time.Second

// A blockage is what the rest of an answer waits for.
type blockage int

const (
	notBlocked blockage = iota // other streams, or the connection's writer
	byWindow                   // the client's windows
	bySocket                   // the client, to read what was sent
)

// blockedBehind returns what the rest of an answer waits for. If that is the client, it counts
// the stream as left, until handled or close, and frees its request.
func (st *stream) blockedBehind() (b blockage) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case st.closed || st.pending.empty():
		return notBlocked
	case st.waitsForWindow():
		b = byWindow
	case socket.Blocked(c.nc):
		b = bySocket
	default:
		return notBlocked
	}
	st.left = true
	c.left++
	st.req, st.handler = nil, nil
	return b
}

// send is put, and a flush if that is asked for or much waits.
func (st *stream) send(p pending, flush bool) error {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	err := st.put(p)
	if flush {
		st.part = false
	}
	if flush || c.out.size() > maxOutput/2 {
		c.releaseToFlush()
	}
	return err
}

// waitWritable waits until some of the pending data is sent, and tells the counter. The
// caller holds mu.
func (st *stream) waitWritable() {
	if counter := st.counter; counter != nil {
		counter.Blocked(true)
		defer counter.Blocked(false)
	}
	st.writable.Wait()
}

// sendFrame appends the next frame of the pending data, as large as the windows allow.
// It returns false when there is none. The caller holds mu and has room.
func (st *stream) sendFrame() bool {
	c, p := st.c, &st.pending
	switch size := p.size(); {
	case p.fields != nil:
		end := p.end && size == 0 && p.trailer == nil
		st.answered = st.answered || p.fields[0].Value[0] != '1'
		c.appendFields(st.id, p.fields, end)
		p.fields = nil
		if end {
			st.sent()
		}
	case size > 0:
		n := min(size, maxFrameBytes, int(st.window), int(c.send))
		if n <= 0 {
			return false
		}
		if n < size && st.counter != nil {
			st.counter.SentPart(n)
		}
		end := p.end && n == size && p.trailer == nil
		c.appendData(st, n, end)
		if end {
			st.sent()
		}
	case p.end && p.trailer != nil:
		c.appendFields(st.id, p.trailer, true)
		st.sent()
	case p.end:
		c.appendData(st, 0, true)
		st.sent()
	case p.settle:
		p.settle, st.settled = false, true
	default:
		return false
	}
	return true
}

// sent notes that the end is in the buffer.
func (st *stream) sent() { st.pending, st.localClosed = pending{}, true }

// waitsForWindow reports whether pending data waits for the client to open a window. The
// caller holds mu.
func (st *stream) waitsForWindow() bool {
	p := &st.pending
	return p.fields == nil && p.size() > 0 && (st.window <= 0 || st.c.send <= 0)
}

// letsThrough reports whether the client's windows let through n more bytes now.
func (st *stream) letsThrough(n int) bool {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return n <= int(min(st.window, c.send))
}

// queue has the writer send the pending data, if the windows allow; when they open, it
// is queued again. The caller holds mu.
func (st *stream) queue() {
	if st.queued || st.closed || st.pending.empty() || st.waitsForWindow() {
		return
	}
	o := &st.c.out
	st.queued = true
	st.prev = o.last
	if o.last == nil {
		o.first = st
	} else {
		o.last.next = st
	}
	o.last = st
}

// unqueue takes the stream from the queue, if it is there. The caller holds mu.
func (st *stream) unqueue() {
	if !st.queued {
		return
	}
	o := &st.c.out
	if st.prev == nil {
		o.first = st.next
	} else {
		st.prev.next = st.next
	}
	if st.next == nil {
		o.last = st.prev
	} else {
		st.next.prev = st.prev
	}
	st.prev, st.next, st.queued = nil, nil, false
}

// sendReady appends a frame of the next stream in turn, and passes the turn on. The
// caller holds mu and has room.
func (c *conn) sendReady() {
	st := c.out.first
	st.unqueue()
	st.sendFrame()
	if st.pending.empty() {
		st.writable.Signal()
	} else {
		st.queue()
	}
}

// sendContinue asks for the body, unless the answer has begun. RFC 9110
// §10.1.1. The caller holds mu.
func (st *stream) sendContinue() {
	if st.closed || st.answered {
		return
	}
	st.c.appendFields(st.id, []hpack.HeaderField{{Name: ":status", Value: "100"}}, false)
	st.c.releaseToFlush()
}
