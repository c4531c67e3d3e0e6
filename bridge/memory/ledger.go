package memory

import (
	"context"
	"sync/atomic"
)

// A Ledger is one call's account with the budget. grpc-go doesn't free what
// is queued when a stream is cancelled, so the ledger is settled at the call's
// end whatever is still out.
type Ledger struct {
	Budget *Budget
	held   [classes]atomic.Int64
}

// SmallBytes is what of a message counts as small.
const SmallBytes = 64 << 10

// PartialBytes is what a call costs besides its buffers while a message of it
// is half read: HTTP/2's window and the connection.
const PartialBytes = 64 << 10

// settled is what held falls to at the end: no sub comes near zero any more.
const settled = -1 << 60

// Total is what the call holds.
func (l *Ledger) Total() int64 {
	return l.held[Small].Load() + l.held[Request].Load() + l.held[Reply].Load()
}

// reserve waits for room and counts it to the call.
func (l *Ledger) reserve(ctx context.Context, of Class, n int) error {
	if err := l.Budget.Reserve(ctx, of, int64(n)); err != nil {
		return err
	}
	l.held[of].Add(int64(n))
	return nil
}

// Add counts without waiting.
func (l *Ledger) Add(of Class, n int) {
	l.held[of].Add(int64(n))
	l.Budget.add(of, int64(n))
}

// Sub gives back what Add or a reservation has counted.
func (l *Ledger) Sub(of Class, n int) {
	if l.held[of].Add(-int64(n)) >= 0 {
		l.Budget.release(of, int64(n))
	}
}

// UnaskedBytes is the largest reply that an upstream may send unasked: it fits the
// window that each stream has from the beginning.
const UnaskedBytes = 256 << 10

// ClassOf is the class of a reply.
func ClassOf(bytes int) Class {
	if bytes > UnaskedBytes {
		return Reply
	}
	return Small
}

// maxExpanded is how many large replies that grew out of gzip may wait for
// room: they are held while they do, since no window could withhold them.
const maxExpanded = 4

// Expanded counts such a reply, as soon as there is room.
func (l *Ledger) Expanded(ctx context.Context, n int) error {
	if l.Budget.waiting[Reply].Load() >= maxExpanded {
		return budgetFault()
	}
	return l.reserve(ctx, Reply, n)
}

// Settle gives back what the call still has out. Nothing is added after it.
func (l *Ledger) Settle() {
	for of := range classes {
		if n := l.held[of].Swap(settled); n > 0 {
			l.Budget.release(of, n)
		}
	}
}
