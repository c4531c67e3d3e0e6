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
	ahead  bool // the reader is running

	mu      sync.Mutex
	changed sync.Cond
	queue   []mem.BufferSlice // a ring of aheadMessages; nil until the reader runs
	first   int               // of the queue
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
	q := &Queue{up: up, held: held, reader: reader, panics: panics}
	q.changed.L = &q.mu
	return q
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
	if q.ahead {
		return q.take()
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
		q.ahead = true
		q.queue = make([]mem.BufferSlice, aheadMessages)
		q.reader.Go(func() { q.readAhead(ctx) })
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
func (q *Queue) readAhead(ctx context.Context) {
	defer q.panics.Catch("reading a backend's replies", func(f *report.Fault) { q.end(f) })
	for {
		m, err := q.recv(ctx)
		if err != nil {
			q.end(err)
			return
		}
		if !q.put(m) {
			return
		}
	}
}

// end notes why nothing follows the queue.
func (q *Queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	q.changed.Signal()
}

// put queues a message, and waits until there is room for another one. It returns false
// after Drop.
func (q *Queue) put(m mem.BufferSlice) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil { // dropped
		m.Free()
		return false
	}
	q.queue[(q.first+q.count)%aheadMessages] = m
	q.count++
	q.bytes += m.Len()
	q.changed.Signal()
	q.full = q.count == aheadMessages || q.bytes >= aheadBytes
	for q.full && q.err == nil {
		q.changed.Wait()
	}
	return q.err == nil
}

// take returns what the reader has read.
func (q *Queue) take() (mem.BufferSlice, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= q.out // it has been sent
	q.out = 0
	q.makeRoom()
	for q.count == 0 && q.err == nil {
		q.changed.Wait()
	}
	if q.count == 0 {
		return nil, false, q.err
	}
	if q.count == 1 && q.err == nil {
		// One more turn for the upstream's reader: what came in the same
		// packet goes out together.
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
	m := q.pop()
	q.out = m.Len()
	q.makeRoom()
	return m, q.count > 0 || q.err != nil, nil
}

// makeRoom wakes the reader when it has room for several messages.
func (q *Queue) makeRoom() {
	if q.full && q.count <= aheadMessages/2 && q.bytes < aheadBytes {
		q.full = false
		q.changed.Signal()
	}
}

// errDropped reports that nobody takes the messages any more.
var errDropped = errors.New("the messages of the stream were dropped")

// Drop stops the reading ahead after the upstream's stream has ended, and frees the
// messages left in the queue. The reader's WaitGroup tells when the reader has
// returned.
func (q *Queue) Drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = errDropped
	}
	q.changed.Broadcast()
	for q.count > 0 {
		q.pop().Free()
	}
}

// pop takes the first message out of the queue, which has one. mu is held.
func (q *Queue) pop() mem.BufferSlice {
	m := q.queue[q.first]
	q.queue[q.first] = nil
	q.first = (q.first + 1) % aheadMessages
	q.count--
	return m
}
