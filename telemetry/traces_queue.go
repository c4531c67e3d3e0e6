package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of a spanQueue.
const (
	batchBytes = 256 << 10   // about 400 spans
	maxBatches = 4           // that wait
	batchDelay = time.Second // how long a span waits for others
)

// A spanReceiver takes requests with spans.
type spanReceiver interface {
	// send returns how many spans the receiver rejected although it took the request, and why
	// it rejected them or didn't take the request.
	send(ctx context.Context, request []byte) (rejected int64, err error)
	close()
}

// A batch has the spans of a request.
type batch struct {
	spans []byte // fields of a ScopeSpans
	count int64
}

// A spanQueue exports spans in batches, on one goroutine. A receiver that is slow, gone or
// refuses costs spans, which are counted, and nothing else: add never waits.
type spanQueue struct {
	to     spanReceiver
	source spanSource
	limit  time.Duration // of an export, with its retries
	log    *slog.Logger

	overflowed, failed, exported atomic.Int64

	mu      sync.Mutex
	batches []batch // the last one may have room
	closed  bool

	first chan struct{} // one place: the queue isn't empty any more
	full  chan struct{} // one place: a batch is full

	told     time.Time // when a line said that exports fail; only run uses it
	untold   int64     // spans dropped since, as told
	toldFull int64     // of overflowed: as told

	last context.Context // of the exports: it ends when patience at the end of culvert does
	cut  context.CancelFunc
	done chan struct{} // closed at the end of culvert
	ran  sync.WaitGroup
}

// newSpanQueue returns a queue that runs until close.
func newSpanQueue(to spanReceiver, source spanSource, limit time.Duration, log *slog.Logger) *spanQueue {
	q := &spanQueue{to: to, source: source, limit: limit, log: log, first: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{})}
	q.last, q.cut = context.WithCancel(context.Background())
	q.ran.Go(q.run)
	return q
}

// add takes a copy of a span, or drops it if there is no room.
func (q *spanQueue) add(span []byte) {
	q.mu.Lock()
	n := len(q.batches)
	full := n == 0 || len(q.batches[n-1].spans)+len(span) > batchBytes
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
	b.spans = message(b.spans).bytes(scopeSpansSpans, span)
	b.count++
	begun := b.count == 1
	q.mu.Unlock()
	switch {
	case !begun:
	case n == 1:
		signal(q.first)
	default: // the one before is full
		signal(q.full)
	}
}

// signal wakes a receiver that may be busy: one signal stands for all until it looks.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take returns the spans of the next request; none if there are none.
func (q *spanQueue) take() (b batch) {
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
func (q *spanQueue) run() {
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

// gather waits until a batch is full or its first span has waited long enough.
func (q *spanQueue) gather() {
	delay := time.NewTimer(batchDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-q.full:
	case <-q.done:
	}
}

func (q *spanQueue) exportAll() {
	for b := q.take(); b.count > 0; b = q.take() {
		q.export(b)
	}
}

func (q *spanQueue) export(b batch) {
	ctx, cancel := context.WithTimeout(q.last, q.limit)
	defer cancel()
	rejected, err := q.to.send(ctx, q.source.request(b.spans))
	if err != nil && rejected == 0 {
		rejected = b.count
	}
	rejected = min(rejected, b.count)
	q.failed.Add(rejected)
	q.exported.Add(b.count - rejected)
	full := q.overflowed.Load() - q.toldFull
	q.toldFull += full
	switch {
	case err == nil && full == 0:
		return
	case err == nil:
		err = errSlow
	case q.last.Err() != nil:
		err = errEnded
	case ctx.Err() != nil:
		err = fmt.Errorf("culvert gave up after %v (traces.timeout): %w", q.limit, err)
	}
	q.tell(err, rejected+full)
}

var (
	errEnded = errors.New("the receiver hadn't taken them when culvert ended")
	errSlow  = errors.New("calls end faster than the receiver takes their spans: have it take more, or lower traces.ratio")
)

// tellEvery limits the lines about exports that fail.
const tellEvery = time.Minute

// tell logs that an export failed, once in a while.
func (q *spanQueue) tell(err error, spans int64) {
	now := time.Now()
	if !q.told.IsZero() && now.Sub(q.told) < tellEvery {
		q.untold += spans
		return
	}
	q.log.Warn("spans were dropped: the receiver of traces didn't accept them", "spans", q.untold+spans, "cause", cut(err.Error()))
	q.told, q.untold = now, 0
}

// close exports what waits, for as long as patience lasts, and ends the goroutine. Spans that
// are added later are dropped.
func (q *spanQueue) close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	late := time.AfterFunc(patience, q.cut)
	defer late.Stop()
	defer q.cut()
	close(q.done)
	q.ran.Wait()
	q.to.close()
}
