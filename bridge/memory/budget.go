package memory

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

// A Budget bounds the message bytes that are held for all calls together.
//
// Small messages (up to 64 KiB of one) may use all of it; large ones have a
// share each way, so that stalled bulk stops neither conversations nor the
// bulk of the other direction. A request's bytes are reserved before they are
// read; where room is scarce, all the rest of a message at once, so that
// whoever holds a part can finish it. A reply's are reserved before the upstream
// may send them (bridge/upstream/window.go). Messages without room wait. While any
// waits, calls that hold memory and make no progress are ended (bridge/running.go).
type Budget struct {
	Limit int64          // bytes: limits.buffered_bytes
	Pool  mem.BufferPool // of the buffers of messages

	used    atomic.Int64
	by      [classes]atomic.Int64 // of used
	waiting [classes]atomic.Int64 // waiters in the queues; read without mu on the free path

	mu     sync.Mutex
	queues [classes]list.List // of *budgetWaiter, oldest first
}

// A Class of bytes has a share of the budget.
type Class int

// The classes: messages of up to 64 KiB, and larger ones by their direction.
const (
	Small Class = iota
	Request
	Reply
	classes
)

// fits holds when n more bytes may be held. A message that is larger than its
// share gets in when it is the only one. mu is held, or the class is small.
func (b *Budget) fits(of Class, n int64) bool {
	held := b.by[of].Load()
	if of != Small && held > 0 && held+n > b.share() {
		return false
	}
	return b.used.Load()+n <= b.Limit || (of != Small && held == 0)
}

// share is what large messages of one direction may fill.
func (b *Budget) share() int64 { return b.Limit / 8 * 3 }

// Roomy reports whether requests fill less than half of their share.
func (b *Budget) Roomy() bool { return b.by[Request].Load() < b.share()/2 }

// A Waiter has asked for bytes. The fields are guarded by the budget's mu.
type Waiter struct {
	class Class
	bytes int64
	ready func()        // called when they are reserved, if that was not at once; mu is held
	queue *list.Element // nil: they are reserved, or given back
}

// ChunkBytes is the size in which bodies are read.
const ChunkBytes = 32 << 10

// New returns a budget of so many bytes.
func New(limit int64) *Budget {
	// The tiers follow the chunks: with grpc-go's own a 64 KiB buffer costs a
	// whole MiB.
	return &Budget{Limit: limit, Pool: buffer.NewPool(256, 1<<10, 2<<10, 4<<10, 8<<10, 16<<10, ChunkBytes, 64<<10, 256<<10, 1<<20)}
}

// Pressed reports whether somebody waits for room.
func (b *Budget) Pressed() bool {
	return b.waiting[Small].Load()+b.waiting[Request].Load()+b.waiting[Reply].Load() > 0
}

func (b *Budget) add(of Class, n int64) {
	b.used.Add(n)
	b.by[of].Add(n)
}

func (b *Budget) release(of Class, n int64) {
	b.add(of, -n)
	if b.Pressed() {
		b.mu.Lock()
		b.grant()
		b.mu.Unlock()
	}
}

// Reserve waits for n bytes, in the order of asking and not for ever.
func (b *Budget) Reserve(ctx context.Context, of Class, n int64) error {
	if of == Small && b.waiting[Small].Load() == 0 && b.fits(Small, n) {
		b.add(Small, n) // by a race a few may pass the limit by one message
		return nil
	}
	ready := make(chan struct{})
	w, atOnce := b.Ask(of, n, func() { close(ready) })
	if atOnce {
		return nil
	}
	impatient := time.NewTimer(Patience)
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
	b.Drop(w)
	return err
}

// Patience is how long to wait for room in limits.buffered_bytes.
const Patience = 10 * time.Second

func budgetFault() *report.Fault {
	return report.OverLimit(report.KeyBufferedBytes, report.AnyMoment, "the messages being carried fill the memory that is allowed for them")
}

// Ask reserves n bytes, and returns whether that was at once; else ready is
// called when it is done, from wherever room comes. drop ends the claim.
func (b *Budget) Ask(of Class, n int64, ready func()) (w *Waiter, atOnce bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w = &Waiter{class: of, bytes: n}
	w.queue = b.queues[of].PushBack(w)
	b.waiting[of].Add(1)
	b.grant()
	w.ready = ready
	return w, w.queue == nil
}

// Drop gives back what a waiter has, or takes it out of the queue. It is
// called once.
func (b *Budget) Drop(w *Waiter) {
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
func (b *Budget) grant() {
	for of := range classes {
		for el := b.queues[of].Front(); el != nil; el = b.queues[of].Front() {
			w := el.Value.(*Waiter)
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

// Used returns how many bytes are held.
func (b *Budget) Used() int64 { return b.used.Load() }

// Mutex returns the budget's lock, for a watchdog that asks whether it is held
// for ever.
func (b *Budget) Mutex() *sync.Mutex { return &b.mu }
