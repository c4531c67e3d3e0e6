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
// What comes from clients is reserved before it is read, and waits when the
// budget is spent. What comes from upstreams is counted as it arrives, and
// the next message is asked for only when there is room.
type budget struct {
	limit int64
	pool  mem.BufferPool
	used  atomic.Int64

	waiting atomic.Int64 // waiters in the list; read without mu on the free path
	mu      sync.Mutex
	queue   list.List // of *budgetWaiter, oldest first
}

type budgetWaiter struct {
	bytes int64
	ready chan struct{} // closed when the bytes are reserved
}

// chunkBytes is the size in which bodies are read: a length prefix reserves
// no more than this before the bytes are there.
const chunkBytes = 32 << 10

func newBudget(limit int64) *budget {
	// The tiers follow the chunks: with grpc-go's own a 64 KiB buffer costs a
	// whole MiB.
	return &budget{limit: limit, pool: mem.NewTieredBufferPool(256, 1<<10, 4<<10, 8<<10, 16<<10, chunkBytes, 64<<10, 256<<10, 1<<20)}
}

// spent says that somebody waits for room.
func (b *budget) spent() bool { return b.waiting.Load() > 0 }

// A ledger is one call's account with the budget. It is the mem.BufferPool of
// the call's buffers, so that bytes count until their last reference is
// freed, also while grpc-go has them queued. grpc-go doesn't free what is
// queued when a stream is cancelled, so the ledger is settled at the call's
// end whatever is still out. Buffers below grpc-go's pooling threshold (1 KiB)
// are not counted.
type ledger struct {
	budget  *budget
	held    atomic.Int64
	partial atomic.Int64 // since when, on the registry's clock, a message is half read; 0: none is
}

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
	buf := l.budget.pool.Get(length)
	if err := l.budget.reserve(ctx, int64(cap(*buf)), budgetPatience); err != nil {
		l.budget.pool.Put(buf)
		return nil, err
	}
	l.held.Add(int64(cap(*buf)))
	return mem.NewBuffer(buf, l), nil
}

// room waits until the budget isn't spent. Nothing is held meanwhile, so it
// may take as long as the call.
func (b *budget) room(ctx context.Context) error {
	if b.used.Load() < b.limit {
		return nil
	}
	if err := b.reserve(ctx, 1, 0); err != nil {
		return err
	}
	b.release(1)
	return nil
}

// reserve waits for n bytes, in the order of asking; no longer than the
// patience, if that isn't zero.
func (b *budget) reserve(ctx context.Context, n int64, patience time.Duration) error {
	if b.waiting.Load() == 0 {
		if b.used.Add(n) <= b.limit {
			return nil
		}
		b.release(n)
	}
	b.mu.Lock()
	w := &budgetWaiter{bytes: n, ready: make(chan struct{})}
	el := b.queue.PushBack(w)
	b.waiting.Add(1)
	b.grant()
	b.mu.Unlock()

	var impatient <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		impatient = timer.C
	}
	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-impatient:
		err = faultf(ReasonLimitExceeded, "the messages being carried fill the memory that is allowed for them (%s)", keyBufferedBytes)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // granted at the same moment
		b.used.Add(-n)
	default:
		b.queue.Remove(el)
		b.waiting.Add(-1)
	}
	b.grant()
	return err
}

func (b *budget) release(n int64) {
	b.used.Add(-n)
	if b.waiting.Load() > 0 {
		b.mu.Lock()
		b.grant()
		b.mu.Unlock()
	}
}

// grant lets waiters in, oldest first. b.mu is held.
func (b *budget) grant() {
	for el := b.queue.Front(); el != nil; el = b.queue.Front() {
		w := el.Value.(*budgetWaiter)
		if b.used.Add(w.bytes) > b.limit && b.used.Load() > w.bytes {
			b.used.Add(-w.bytes)
			return
		}
		b.queue.Remove(el)
		b.waiting.Add(-1)
		close(w.ready)
	}
}
