package bridge

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/buffer"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A budget bounds the message bytes that are held for all calls together.
//
// Small messages (up to 64 KiB of one) may use all of it; large ones have a
// share each way, so that stalled bulk stops neither conversations nor the
// bulk of the other direction. A request's bytes are reserved before they are
// read; where room is scarce, all the rest of a message at once, so that
// whoever holds a part can finish it. A reply's are reserved before the upstream
// may send them (upstream_window.go). What doesn't fit waits. While anybody
// waits, calls that hold memory and don't get on are ended (running.go).
type budget struct {
	limit int64
	pool  mem.BufferPool

	used    atomic.Int64
	by      [classes]atomic.Int64 // of used
	waiting [classes]atomic.Int64 // waiters in the queues; read without mu on the free path

	mu     sync.Mutex
	queues [classes]list.List // of *budgetWaiter, oldest first
}

// A class of bytes has a share of the budget.
type class int

const (
	small class = iota
	request
	reply
	classes
)

// fits holds when n more bytes may be held. A message that is larger than its
// share gets in when it is the only one. mu is held, or the class is small.
func (b *budget) fits(of class, n int64) bool {
	held := b.by[of].Load()
	if of != small && held > 0 && held+n > b.share() {
		return false
	}
	return b.used.Load()+n <= b.limit || (of != small && held == 0)
}

// share is what large messages of one direction may fill.
func (b *budget) share() int64 { return b.limit / 8 * 3 }

// roomy holds while requests fill less than half of their share.
func (b *budget) roomy() bool { return b.by[request].Load() < b.share()/2 }

// A budgetWaiter asked for bytes. The fields are guarded by the budget's mu.
type budgetWaiter struct {
	class class
	bytes int64
	ready func()        // called when they are reserved, if that was not at once; mu is held
	queue *list.Element // nil: they are reserved, or given back
}

// chunkBytes is the size in which bodies are read.
const chunkBytes = 32 << 10

func newBudget(limit int64) *budget {
	// The tiers follow the chunks: with grpc-go's own a 64 KiB buffer costs a
	// whole MiB.
	return &budget{limit: limit, pool: buffer.NewPool(256, 1<<10, 2<<10, 4<<10, 8<<10, 16<<10, chunkBytes, 64<<10, 256<<10, 1<<20)}
}

// pressed says whether somebody waits for room.
func (b *budget) pressed() bool {
	return b.waiting[small].Load()+b.waiting[request].Load()+b.waiting[reply].Load() > 0
}

func (b *budget) add(of class, n int64) {
	b.used.Add(n)
	b.by[of].Add(n)
}

func (b *budget) release(of class, n int64) {
	b.add(of, -n)
	if b.pressed() {
		b.mu.Lock()
		b.grant()
		b.mu.Unlock()
	}
}

// reserve waits for n bytes, in the order of asking and not for ever.
func (b *budget) reserve(ctx context.Context, of class, n int64) error {
	if of == small && b.waiting[small].Load() == 0 && b.fits(small, n) {
		b.add(small, n) // by a race a few may pass the limit by one message
		return nil
	}
	ready := make(chan struct{})
	w, atOnce := b.ask(of, n, func() { close(ready) })
	if atOnce {
		return nil
	}
	impatient := time.NewTimer(budgetPatience)
	defer impatient.Stop()
	var err error
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-impatient.C:
		err = budgetFault()
	}
	b.drop(w)
	return err
}

// budgetPatience is how long to wait for room in limits.buffered_bytes.
const budgetPatience = 10 * time.Second

func budgetFault() *report.Fault {
	return report.OverLimit(report.KeyBufferedBytes, report.AnyMoment, "the messages being carried fill the memory that is allowed for them")
}

// ask reserves n bytes, and returns whether that was at once; else ready is
// called when it is done, from wherever room comes. drop ends the claim.
func (b *budget) ask(of class, n int64, ready func()) (w *budgetWaiter, atOnce bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w = &budgetWaiter{class: of, bytes: n}
	w.queue = b.queues[of].PushBack(w)
	b.waiting[of].Add(1)
	b.grant()
	w.ready = ready
	return w, w.queue == nil
}

// drop gives back what a waiter has, or takes it out of the queue. It is
// called once.
func (b *budget) drop(w *budgetWaiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.queue == nil {
		b.add(w.class, -w.bytes)
	} else {
		b.queues[w.class].Remove(w.queue)
		w.queue = nil
		b.waiting[w.class].Add(-1)
	}
	b.grant()
}

// grant lets waiters in, oldest first. mu is held.
func (b *budget) grant() {
	for of := range classes {
		for el := b.queues[of].Front(); el != nil; el = b.queues[of].Front() {
			w := el.Value.(*budgetWaiter)
			if !b.fits(of, w.bytes) {
				break
			}
			b.add(of, w.bytes)
			b.queues[of].Remove(el)
			b.waiting[of].Add(-1)
			w.queue = nil
			if w.ready != nil {
				w.ready()
			}
		}
	}
}

// A ledger is one call's account with the budget. grpc-go doesn't free what
// is queued when a stream is cancelled, so the ledger is settled at the call's
// end whatever is still out.
type ledger struct {
	budget *budget
	held   [classes]atomic.Int64
}

// smallBytes is what of a message counts as small.
const smallBytes = 64 << 10

// partialBytes is what a call costs besides its buffers while a message of it
// is half read: HTTP/2's window and the connection.
const partialBytes = 64 << 10

// settled is what held falls to at the end: no sub comes near zero any more.
const settled = -1 << 60

// total is what the call holds.
func (l *ledger) total() int64 {
	return l.held[small].Load() + l.held[request].Load() + l.held[reply].Load()
}

// reserve waits for room and counts it to the call.
func (l *ledger) reserve(ctx context.Context, of class, n int) error {
	if err := l.budget.reserve(ctx, of, int64(n)); err != nil {
		return err
	}
	l.held[of].Add(int64(n))
	return nil
}

// add counts without waiting.
func (l *ledger) add(of class, n int) {
	l.held[of].Add(int64(n))
	l.budget.add(of, int64(n))
}

func (l *ledger) sub(of class, n int) {
	if l.held[of].Add(-int64(n)) >= 0 {
		l.budget.release(of, int64(n))
	}
}

// unaskedBytes is the largest reply that an upstream may send unasked: it fits the
// window that each stream has from the beginning.
const unaskedBytes = 256 << 10

// classOf is the class of a reply.
func classOf(bytes int) class {
	if bytes > unaskedBytes {
		return reply
	}
	return small
}

// maxExpanded is how many large replies that grew out of gzip may wait for
// room: they are held while they do, since no window could withhold them.
const maxExpanded = 4

// expanded counts such a reply, as soon as there is room.
func (l *ledger) expanded(ctx context.Context, n int) error {
	if l.budget.waiting[reply].Load() >= maxExpanded {
		return budgetFault()
	}
	return l.reserve(ctx, reply, n)
}

// settle gives back what the call still has out. Nothing is added after it.
func (l *ledger) settle() {
	for of := range classes {
		if n := l.held[of].Swap(settled); n > 0 {
			l.budget.release(of, n)
		}
	}
}

// A claim is the room of one request message. It is the mem.BufferPool of the
// message's buffers, so that the message counts until the last reference to
// the last of them is freed, also while grpc-go has them queued. Buffers below
// unpooledBytes are not counted.
type claim struct {
	ledger  *ledger
	bytes   [classes]int
	buffers atomic.Int64  // those that are out, and one for the reader
	first   [1]mem.Buffer // the message, if it is one buffer: spares the heap
}

func newClaim(l *ledger) *claim {
	c := &claim{ledger: l}
	c.buffers.Store(1)
	return c
}

// reserve waits for room for n more bytes of the message.
func (c *claim) reserve(ctx context.Context, of class, n int) error {
	if err := c.ledger.reserve(ctx, of, n); err != nil {
		return err
	}
	c.bytes[of] += n
	return nil
}

// Messages of up to unpooledBytes are cheaper made than kept in a pool; those
// of pooledBytes and more grpc-go gives back to their pool.
const (
	unpooledBytes = 256
	pooledBytes   = 1<<10 + 1
)

// buffer returns a buffer of the length; room for it is reserved.
func (c *claim) buffer(length int) mem.Buffer {
	if length <= unpooledBytes {
		return mem.SliceBuffer(make([]byte, length))
	}
	buf := c.Get(max(length, pooledBytes)) // grpc-go gives a smaller one to the garbage collector
	*buf = (*buf)[:length]
	return mem.NewBuffer(buf, c)
}

// Get implements mem.BufferPool.
func (c *claim) Get(length int) *[]byte {
	c.buffers.Add(1)
	return c.ledger.budget.pool.Get(length)
}

// Put implements mem.BufferPool.
func (c *claim) Put(buf *[]byte) {
	c.ledger.budget.pool.Put(buf)
	c.done()
}

// done ends the reader's part, or a buffer's.
func (c *claim) done() {
	if c.buffers.Add(-1) > 0 {
		return
	}
	for of, n := range c.bytes {
		if n > 0 {
			c.ledger.sub(class(of), n)
		}
	}
}
