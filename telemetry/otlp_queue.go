package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of an itemQueue.
const (
	batchBytes = 256 << 10   // about 400 spans or lines
	maxBatches = 4           // that wait
	batchDelay = time.Second // how long an item waits for others
)

// A batch has the items of a request.
type batch struct {
	items []byte // fields of a scope
	count int64
}

// An itemQueue exports spans or lines in batches, on one goroutine. A receiver that is slow, gone
// or refuses costs items, which are counted, and nothing else: add never waits. Items may be added
// before it starts.
type itemQueue struct {
	to *exporter // from start on

	overflowed atomic.Int64
	told       int64 // of overflowed: as told; only run uses it

	mu      sync.Mutex
	batches []batch // the last one may have room
	closed  bool

	first chan struct{} // one place: the queue isn't empty any more
	full  chan struct{} // one place: a batch is full

	last context.Context // of the exports: it ends when patience at the end of culvert does
	cut  context.CancelFunc
	done chan struct{} // closed at the end of culvert
	ran  sync.WaitGroup
}

func newItemQueue() *itemQueue {
	q := &itemQueue{first: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{})}
	q.last, q.cut = context.WithCancel(context.Background())
	return q
}

// start begins to export. close must follow.
func (q *itemQueue) start(to *exporter) {
	q.to = to
	q.ran.Go(q.run)
}

// add takes a copy of an item, or drops it if there is no room.
func (q *itemQueue) add(item []byte) {
	q.mu.Lock()
	n := len(q.batches)
	full := n == 0 || len(q.batches[n-1].items)+len(item) > batchBytes
	if q.closed || full && n == maxBatches {
		q.mu.Unlock()
		q.overflowed.Add(1)
		return
	}
	if full {
		q.batches = append(q.batches, batch{})
		n++
	}
	b := &q.batches[n-1]
	b.items = message(b.items).bytes(scopeItems, item)
	b.count++
	begun := b.count == 1
	q.mu.Unlock()
	switch {
	case !begun:
	case n == 1:
		signalTo(q.first)
	default: // the one before is full
		signalTo(q.full)
	}
}

// An itemBuffer has room for nearly every item while it is written.
type itemBuffer struct{ m [2048]byte }

var itemPool = sync.Pool{New: func() any { return new(itemBuffer) }}

// signalTo wakes a receiver that may be busy: one signal stands for all until it looks.
func signalTo(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take returns the items of the next request; none if there are none.
func (q *itemQueue) take() (b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.batches) == 0 {
		return batch{}
	}
	b = q.batches[0]
	q.batches[0] = batch{}
	if q.batches = q.batches[1:]; len(q.batches) == 0 {
		q.batches = nil
	}
	return b
}

// run exports. An empty queue wakes nobody.
func (q *itemQueue) run() {
	for {
		select {
		case <-q.first:
		case <-q.done:
			q.exportAll()
			return
		}
		q.gather()
		q.exportAll()
	}
}

// gather waits until a batch is full or its first item has waited long enough.
func (q *itemQueue) gather() {
	delay := time.NewTimer(batchDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-q.full:
	case <-q.done:
	}
}

func (q *itemQueue) exportAll() {
	for b := q.take(); b.count > 0; b = q.take() {
		_ = q.to.export(q.last, b) // it has told of an error
		if full := q.overflowed.Load() - q.told; full > 0 {
			q.told += full
			q.to.overflowed(full)
		}
	}
}

// close exports what waits, for as long as patience lasts, and ends the goroutine. Items that
// are added later are dropped.
func (q *itemQueue) close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	late := time.AfterFunc(patience, q.cut)
	defer late.Stop()
	defer q.cut()
	close(q.done)
	q.ran.Wait()
	if q.to != nil {
		q.to.close()
	}
}
