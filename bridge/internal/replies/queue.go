package replies

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// The bounds of reading ahead of the client: enough to write what is ready with one
// system call, and no more.
const (
	aheadMessages = 16
	aheadBytes    = 64 << 10
)

// A Queue hands out a stream's messages in order. At first it reads each message when it
// is asked for it. Once it sees a burst of small messages, a goroutine reads ahead, so
// that Next can tell whether more is ready. An idle stream costs nothing extra.
type Queue struct {
	// Packed is set before Next if the upstream compresses its messages.
	Packed bool

	up     *upstream.Stream
	held   *memory.Entry
	panics *report.Panics

	done struct{ messages, bytes int } // sent, and not yet given back

	ready  int // small messages in a row that had already arrived when they were asked for
	reader *sync.WaitGroup
	ahead  *ahead // nil: the reader isn't running
}

// An ahead is what the reader has read, for the owner of a Queue.
type ahead struct {
	mu      sync.Mutex
	changed sync.Cond
	queue   [aheadMessages]mem.BufferSlice // a ring
	first   int                            // of the queue
	count   int
	bytes   int   // queued, or handed out and not yet sent
	out     int   // of bytes
	full    bool  // the reader is waiting for room
	err     error // why nothing follows the queue
}

// New returns the Queue of a stream. The messages count with held. The goroutine that
// reads ahead counts with reader: its owner waits for it after Drop. If it panics, Next
// returns the fault.
func New(up *upstream.Stream, held *memory.Entry, reader *sync.WaitGroup, panics *report.Panics) *Queue {
	return &Queue{up: up, held: held, reader: reader, panics: panics}
}

// A burst is this many small messages in a row that had already arrived when they were
// asked for.
const (
	burst      = 3
	burstBytes = 16 << 10 // the most that each may have
)

// Next returns the next message, which the caller frees, and reports whether another
// one or the end is ready. By then the caller has sent the message before it. The
// message counts with held until Sent is called.
func (q *Queue) Next(ctx context.Context) (m mem.BufferSlice, more bool, err error) {
	if q.ahead != nil {
		return q.ahead.take()
	}
	arrivals := q.up.Arrivals()
	m, err = q.recv(ctx)
	if err != nil {
		return nil, false, err
	}
	if q.up.Ended() {
		return m, true, nil
	}
	if q.up.Arrivals() != arrivals || m.Len() > burstBytes {
		q.ready = 0
	} else if q.ready++; q.ready == burst {
		q.ahead = new(ahead)
		q.ahead.changed.L = &q.ahead.mu
		q.reader.Go(func() { q.readAhead(ctx, q.ahead) })
	}
	return m, false, nil
}

// recv reads a message. The message has counted since it arrived. Decompression makes
// it larger, so recv counts it again.
func (q *Queue) recv(ctx context.Context) (mem.BufferSlice, error) {
	m, err := q.up.Recv()
	if err != nil || !q.Packed {
		return m, err
	}
	bytes := m.Len()
	q.up.Sent(1, q.up.Wire())
	if of := memory.ClassOf(bytes); of == memory.Small {
		q.held.Add(of, bytes)
	} else if err := q.held.Expanded(ctx, bytes); err != nil {
		m.Free()
		return nil, err
	}
	return m, nil
}

// Sent gives back what a message of this size counted. If more is ready, it gives back
// small messages together.
func (q *Queue) Sent(bytes int, more bool) {
	switch {
	case q.Packed:
		q.held.Sub(memory.ClassOf(bytes), bytes)
	case memory.ClassOf(bytes) == memory.Reply:
		q.up.Sent(1, bytes)
	default:
		q.done.messages++
		q.done.bytes += bytes
	}
	if q.done.messages > 0 && (!more || q.done.bytes >= aheadBytes/4) {
		q.up.Sent(q.done.messages, q.done.bytes)
		q.done.messages, q.done.bytes = 0, 0
	}
}

// readAhead reads until the upstream's end, or until Drop.
func (q *Queue) readAhead(ctx context.Context, a *ahead) {
	defer q.panics.Catch("reading a backend's replies", func(f *report.Fault) { a.end(f) })
	for {
		m, err := q.recv(ctx)
		if err != nil {
			a.end(err)
			return
		}
		if !a.put(m) {
			return
		}
	}
}

// end notes why nothing follows the queue.
func (a *ahead) end(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
	}
	a.changed.Signal()
}

// put queues a message, and waits until there is room for another one. It returns false
// after Drop.
func (a *ahead) put(m mem.BufferSlice) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil { // dropped
		m.Free()
		return false
	}
	a.queue[(a.first+a.count)%aheadMessages] = m
	a.count++
	a.bytes += m.Len()
	a.changed.Signal()
	a.full = a.count == aheadMessages || a.bytes >= aheadBytes
	for a.full && a.err == nil {
		a.changed.Wait()
	}
	return a.err == nil
}

// take returns what the reader has read.
func (a *ahead) take() (mem.BufferSlice, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes -= a.out // it has been sent
	a.out = 0
	a.makeRoom()
	for a.count == 0 && a.err == nil {
		a.changed.Wait()
	}
	if a.count == 0 {
		return nil, false, a.err
	}
	if a.count == 1 && a.err == nil {
		// One more turn for the upstream's reader: what came in the same
		// packet goes out together.
		a.mu.Unlock()
		runtime.Gosched()
		a.mu.Lock()
	}
	m := a.pop()
	a.out = m.Len()
	a.makeRoom()
	return m, a.count > 0 || a.err != nil, nil
}

// makeRoom wakes the reader when it has room for several messages.
func (a *ahead) makeRoom() {
	if a.full && a.count <= aheadMessages/2 && a.bytes < aheadBytes {
		a.full = false
		a.changed.Signal()
	}
}

// errDropped reports that nobody takes the messages any more.
var errDropped = errors.New("the messages of the stream were dropped")

// Drop stops the reading ahead after the upstream's stream has ended, and frees the
// messages left in the queue. The reader's WaitGroup tells when the reader has
// returned.
func (q *Queue) Drop() {
	a := q.ahead
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = errDropped
	}
	a.changed.Broadcast()
	for a.count > 0 {
		a.pop().Free()
	}
}

// pop takes the first message out of the queue, which has one. mu is held.
func (a *ahead) pop() mem.BufferSlice {
	m := a.queue[a.first]
	a.queue[a.first] = nil
	a.first = (a.first + 1) % aheadMessages
	a.count--
	return m
}
