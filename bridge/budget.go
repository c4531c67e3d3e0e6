package bridge

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"
)

// A budget bounds the message bytes that are held for all calls together. It
// is a mem.BufferPool, so that what it counts is what is really held: bytes
// count from the moment a buffer is taken until its last reference is freed,
// also while grpc-go has them queued. Buffers below grpc-go's pooling
// threshold (1 KiB) are not counted.
//
// What comes from clients is reserved before it is read, and waits when the
// budget is spent. What comes from upstreams is counted as grpc-go takes it,
// and the next message is asked for only when there is room.
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

// Get returns a buffer of the length, counting it without waiting.
// It implements mem.BufferPool.
func (b *budget) Get(length int) *[]byte {
	buf := b.pool.Get(length)
	b.used.Add(int64(cap(*buf)))
	return buf
}

// Put takes a buffer back. It implements mem.BufferPool.
func (b *budget) Put(buf *[]byte) {
	n := int64(cap(*buf))
	b.pool.Put(buf)
	b.release(n)
}

// take returns a buffer of the length once the budget has room for it, or a
// fault when that takes too long. The buffer is freed like any other.
func (b *budget) take(ctx context.Context, length int) (mem.Buffer, error) {
	if mem.IsBelowBufferPoolingThreshold(length) {
		return mem.SliceBuffer(make([]byte, length)), nil
	}
	buf := b.pool.Get(length)
	if err := b.reserve(ctx, int64(cap(*buf))); err != nil {
		b.pool.Put(buf)
		return nil, err
	}
	return mem.NewBuffer(buf, b), nil
}

// room waits until the budget isn't spent.
func (b *budget) room(ctx context.Context) error {
	if b.used.Load() < b.limit {
		return nil
	}
	if err := b.reserve(ctx, 1); err != nil {
		return err
	}
	b.release(1)
	return nil
}

func (b *budget) reserve(ctx context.Context, n int64) error {
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

	patience := time.NewTimer(budgetPatience)
	defer patience.Stop()
	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-patience.C:
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
