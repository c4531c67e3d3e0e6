package bridge

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"
)

// A budget bounds the message bytes that are held for all calls together.
//
// What comes from clients is reserved before it is read, what comes from
// upstreams before they may send it (upstream_window.go), if it is more than a
// fixed window. Both wait when there is no room. What goes beyond the first
// 64 KiB of a call is large: it may fill three quarters of the budget, so that
// stalled bulk never stops a conversation. While anybody waits, calls that
// hold memory and don't get on are ended (running.go).
type budget struct {
	limit int64
	pool  mem.BufferPool
	used  atomic.Int64

	waiting [classes]atomic.Int64 // waiters in the queues; read without mu on the free path
	mu      sync.Mutex
	queues  [classes]list.List // of *budgetWaiter, oldest first
}

// A class of reservations has a part of the budget that it may fill.
type class int

const (
	small class = iota
	large
	classes
)

func (b *budget) limitOf(c class) int64 {
	if c == large {
		return b.limit / 4 * 3
	}
	return b.limit
}

// A budgetWaiter asked for bytes. The fields are guarded by the budget's mu.
type budgetWaiter struct {
	class class
	bytes int64
	ready func()        // called when they are reserved, if that was not at once; mu is held
	queue *list.Element // nil: they are reserved, or given back
}

// chunkBytes is the size in which bodies are read: a length prefix reserves
// no more than this before the bytes are there.
const chunkBytes = 32 << 10

func newBudget(limit int64) *budget {
	// The tiers follow the chunks: with grpc-go's own a 64 KiB buffer costs a
	// whole MiB.
	return &budget{limit: limit, pool: mem.NewTieredBufferPool(256, 1<<10, 4<<10, 8<<10, 16<<10, chunkBytes, 64<<10, 256<<10, 1<<20)}
}

// pressed says whether somebody waits for room.
func (b *budget) pressed() bool { return b.waiting[small].Load()+b.waiting[large].Load() > 0 }

// A ledger is one call's account with the budget. It is the mem.BufferPool of
// the call's buffers, so that bytes count until their last reference is
// freed, also while grpc-go has them queued. grpc-go doesn't free what is
// queued when a stream is cancelled, so the ledger is settled at the call's
// end whatever is still out. Buffers below grpc-go's pooling threshold (1 KiB)
// are not counted.
type ledger struct {
	budget *budget
	held   atomic.Int64
}

// smallBytes is what a call may hold of its client's bytes without being
// counted among the large.
const smallBytes = 64 << 10

// partialBytes is what a call costs besides its buffers while a message of it
// is half read: HTTP/2's window and the connection.
const partialBytes = 64 << 10

// settled is what held falls to at the end: no Put comes near zero any more.
const settled = -1 << 62

// Get returns a buffer of the length, counting it without waiting. It
// implements mem.BufferPool.
func (l *ledger) Get(length int) *[]byte {
	buf := l.budget.pool.Get(length)
	l.add(cap(*buf))
	return buf
}

// Put takes a buffer back. It implements mem.BufferPool.
func (l *ledger) Put(buf *[]byte) {
	n := cap(*buf)
	l.budget.pool.Put(buf)
	l.sub(n)
}

func (l *ledger) add(n int) {
	l.held.Add(int64(n))
	l.budget.used.Add(int64(n))
}

func (l *ledger) sub(n int) {
	if l.held.Add(-int64(n)) >= 0 {
		l.budget.release(int64(n))
	}
}

// settle gives back what the call still has out. Nothing is added after it.
func (l *ledger) settle() {
	if n := l.held.Swap(settled); n > 0 {
		l.budget.release(n)
	}
}

// take returns a buffer of the length once the budget has room for it, or a
// fault when that takes too long. The buffer is freed like any other.
func (l *ledger) take(ctx context.Context, length int) (mem.Buffer, error) {
	if mem.IsBelowBufferPoolingThreshold(length) {
		return mem.SliceBuffer(make([]byte, length)), nil
	}
	of := small
	if l.held.Load()+int64(length) > smallBytes {
		of = large
	}
	if err := l.budget.reserve(ctx, of, int64(length)); err != nil {
		return nil, err
	}
	l.held.Add(int64(length))
	buf := l.budget.pool.Get(length)
	l.add(cap(*buf) - length)
	return mem.NewBuffer(buf, l), nil
}

// reserve waits for n bytes, in the order of asking and not for ever.
func (b *budget) reserve(ctx context.Context, of class, n int64) error {
	if b.waiting[of].Load() == 0 {
		if b.used.Add(n) <= b.limitOf(of) {
			return nil
		}
		b.release(n)
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
		err = faultf(ReasonLimitExceeded, "the messages being carried fill the memory that is allowed for them (%s)", keyBufferedBytes)
	}
	b.drop(w)
	return err
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
		b.used.Add(-w.bytes)
	} else {
		b.queues[w.class].Remove(w.queue)
		w.queue = nil
		b.waiting[w.class].Add(-1)
	}
	b.grant()
}

func (b *budget) release(n int64) {
	b.used.Add(-n)
	if b.pressed() {
		b.mu.Lock()
		b.grant()
		b.mu.Unlock()
	}
}

// grant lets waiters in, small ones first, oldest first. One that is larger
// than the whole budget gets in when nothing else is held. mu is held.
func (b *budget) grant() {
	for of := range classes {
		for el := b.queues[of].Front(); el != nil; el = b.queues[of].Front() {
			w := el.Value.(*budgetWaiter)
			if b.used.Add(w.bytes) > b.limitOf(of) && b.used.Load() > w.bytes {
				b.used.Add(-w.bytes)
				break
			}
			b.queues[of].Remove(el)
			b.waiting[of].Add(-1)
			w.queue = nil
			if w.ready != nil {
				w.ready()
			}
		}
	}
}
