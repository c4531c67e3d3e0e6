package h2

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"golang.org/x/net/http2"
)

// A chunk is a piece of a body: b[r:w] is unread.
type chunk struct {
	next *chunk
	r, w int
	b    []byte
}

// chunkPools are for chunks of three sizes: small messages, larger ones, and
// whole frames.
var chunkPools = [...]struct {
	size int
	pool sync.Pool
}{{size: 512}, {size: 4 << 10}, {size: maxFrameBytes}}

func newChunk(n int) *chunk {
	for i := range chunkPools {
		p := &chunkPools[i]
		if n > p.size {
			continue
		}
		if ch, ok := p.pool.Get().(*chunk); ok {
			return ch
		}
		return &chunk{b: make([]byte, p.size)}
	}
	panic("BUG: a chunk larger than a frame")
}

func (ch *chunk) free() {
	ch.next, ch.r, ch.w = nil, 0, 0
	for i := range chunkPools {
		if chunkPools[i].size == len(ch.b) {
			chunkPools[i].pool.Put(ch)
		}
	}
}

// receive processes DATA or trailers. length is what counts for the windows, with
// padding. The caller holds the connection's mu.
func (st *stream) receive(data []byte, length int, end bool) error {
	c := st.c
	if !st.recv.take(length) {
		c.giveBack(length)
		return streamError{st.id, http2.ErrCodeFlowControl, "DATA beyond the stream's window"}
	}
	wanted := st.hold(length)
	st.got += int64(len(data))
	if st.declared >= 0 && !st.localClosed && (st.got > st.declared || end && st.got != st.declared) {
		err := &LengthError{st.declared, st.got}
		st.readErr = err
		st.reset(http2.ErrCodeProtocol, err)
		return nil
	}
	if pad := length - len(data); pad > 0 {
		st.credit(pad)
	}
	if end {
		st.remoteClosed = true
	}
	if st.lingers {
		st.drop(len(data), end)
		return nil
	}
	if st.readErr != nil { // nobody reads any more
		c.giveBack(len(data))
		st.hold(-len(data))
		return nil
	}
	if !wanted {
		st.closeBody()
		return nil
	}
	st.append(data)
	if end {
		st.readErr = io.EOF
	}
	st.readable.Signal()
	return nil
}

// A Counter counts the bytes of a request's body that were received and not read. Its
// Unread gets n more bytes, or fewer if n is negative. If it returns false, all unread
// data is dropped, and all later data, as by the body's Close. SentPart gets n bytes of
// the answer that were sent while more waits for a window. Blocked gets true when the
// answer begins to wait for the client, and false when that ends. The connection's lock
// is held during the calls, so they must not wait or call the stream.
type Counter interface {
	Unread(n int) bool
	SentPart(n int)
	Blocked(blocked bool)
}

// CountBody gives the counter the unread bytes of the request's body, and each change
// until the handler has ended. It does nothing if this package doesn't serve the
// request.
func CountBody(r *http.Request, counter Counter) {
	b, ok := r.Body.(*body)
	if !ok {
		return
	}
	st := b.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.counter = counter
	if !counter.Unread(st.uncredited) {
		st.closeBody()
		st.c.releaseToFlush()
	}
}

// Whole returns the length of a request's body of which nothing is read yet, if all of it
// has arrived. It returns -1 while the client may send more, and if this package doesn't
// serve the request.
func Whole(r *http.Request) int64 {
	b, ok := r.Body.(*body)
	if !ok {
		return -1
	}
	st := b.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if !errors.Is(st.readErr, io.EOF) {
		return -1
	}
	return st.got
}

// hold notes n more bytes that were received and not given back, and reports whether
// they are wanted. The caller holds mu.
func (st *stream) hold(n int) (wanted bool) {
	st.uncredited += n
	return st.counter == nil || st.counter.Unread(n)
}

func (st *stream) append(data []byte) {
	if t := st.tail; t != nil && t.w < len(t.b) {
		n := copy(t.b[t.w:], data)
		t.w += n
		data = data[n:]
	}
	if len(data) == 0 {
		return
	}
	ch := newChunk(len(data))
	ch.w = copy(ch.b, data)
	if st.tail == nil {
		st.head = ch
	} else {
		st.tail.next = ch
	}
	st.tail = ch
}

// credit opens the windows by the used bytes. The caller holds mu.
func (st *stream) credit(n int) {
	n = min(n, st.uncredited) // a body that was closed has given all back
	if st.closed || n == 0 {
		return
	}
	st.hold(-n)
	st.c.giveBack(n)
	if inc := st.recv.give(n); inc > 0 && !st.remoteClosed {
		f := st.c.frames()
		f.b = appendWord(f.b, http2.FrameWindowUpdate, st.id, uint32(inc))
	}
}

// dropUnread frees data that nobody will read. The caller holds mu.
func (st *stream) dropUnread() {
	for ch := st.head; ch != nil; {
		next := ch.next
		ch.free()
		ch = next
	}
	st.head, st.tail = nil, nil
	st.c.giveBack(st.uncredited)
	st.hold(-st.uncredited)
}

// body is a request's body. Read and Close may run at once.
type body struct {
	st       *stream
	expected bool   // the client waits for 100 Continue; Read's own
	chunks   *chunk // taken and not read; only Read uses it
	used     int    // read, and not yet given back; only Read uses it
}

// Read takes all received data at once, so that most reads need no lock.
func (b *body) Read(p []byte) (int, error) {
	if b.chunks == nil {
		if err := b.take(); err != nil {
			return 0, err
		}
	}
	n := 0
	for b.chunks != nil && n < len(p) {
		ch := b.chunks
		k := copy(p[n:], ch.b[ch.r:ch.w])
		ch.r += k
		n += k
		if ch.r == ch.w {
			b.chunks = ch.next
			ch.free()
		}
	}
	if b.used += n; b.used >= b.st.recv.size/4 {
		b.giveBack()
	}
	return n, nil
}

// take waits for the next data.
func (b *body) take() error {
	st := b.st
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.expected {
		b.expected = false
		st.sendContinue()
	}
	for st.head == nil && st.readErr == nil {
		if b.used > 0 { // the client may need it to continue, if not on this stream
			before := c.out.size()
			st.credit(b.used)
			b.used = 0
			if c.out.size() > before { // else waiting answers may wait longer
				c.releaseToFlush()
				continue // the state may have changed meanwhile
			}
		}
		st.readable.Wait()
	}
	if st.head != nil {
		b.chunks, st.head, st.tail = st.head, nil, nil
		return nil
	}
	if errors.Is(st.readErr, io.EOF) {
		for name := range st.req.Trailer { // others are dropped, as net/http does
			st.req.Trailer[name] = st.trailer[name]
		}
	}
	return st.readErr
}

func (b *body) giveBack() {
	c := b.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b.st.credit(b.used)
	b.used = 0
	c.releaseToFlush()
}

// Close makes reads fail, including one that waits, and drops the unread data. Later
// data of the body is dropped, too. It does nothing to a body that has come and was taken whole.
func (b *body) Close() error {
	st := b.st
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.closed || errors.Is(st.readErr, errBodyClosed) || st.head == nil && errors.Is(st.readErr, io.EOF) {
		return nil
	}
	st.closeBody()
	c.releaseToFlush()
	return nil
}

// closeBody makes reads fail, and drops the unread data. The caller holds mu.
func (st *stream) closeBody() {
	st.readErr = errBodyClosed
	st.dropUnread()
	st.readable.Broadcast()
}
