package logs

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// A queue has a goroutine that writes its lines, so that no call, signal or
// drain waits for the reader of the log. The lines of single calls, of which
// there may be tens of thousands a second, wait for a moment and are written
// together. The queue writes any other line at once, after the waiting lines.
//
// The queue drops and counts lines that don't fit. It writes the count after
// the lines that it queued before.
type queue struct {
	w      io.Writer
	notice func(dropped int, cause error) []byte // the line that tells of dropped lines
	ended  chan struct{}                         // closed when the goroutine is done

	mu      sync.Mutex
	changed sync.Cond // due or closed was set
	held    []byte    // whole lines
	writing int       // bytes that the goroutine is writing
	due     bool      // held must be written now
	closed  bool
	timer   *time.Timer // sets due; nil: no line waits
	dropped int         // lines, since the last notice
	lost    int64       // lines, since the start
	cause   error       // of the last failed write, since the last notice
}

const (
	maxQueued = 4 << 20                // bytes, with those that are being written
	maxHeld   = 32 << 10               // bytes of lines that wait for one another
	maxDelay  = 100 * time.Millisecond // of those lines
	maxSpare  = 256 << 10              // a larger buffer isn't kept
)

// newQueue starts the goroutine of the queue. close ends it.
func newQueue(w io.Writer, notice func(dropped int, cause error) []byte) *queue {
	q := &queue{w: w, notice: notice, ended: make(chan struct{})}
	q.changed.L = &q.mu
	go q.run() // close waits for it, unless the log has no reader
	return q
}

// Write queues a line, and the goroutine writes it at once. Write never fails
// or blocks.
func (q *queue) Write(line []byte) (int, error) {
	q.add(line, true)
	return len(line), nil
}

// calls returns the writer for lines that may wait.
func (q *queue) calls() io.Writer { return callLines{q} }

type callLines struct{ q *queue }

func (c callLines) Write(line []byte) (int, error) {
	c.q.add(line, false)
	return len(line), nil
}

func (q *queue) add(line []byte, now bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writing+len(q.held)+len(line) > maxQueued {
		q.dropLocked(line)
		return
	}
	q.held = append(q.held, line...)
	switch {
	case now || len(q.held) >= maxHeld:
		q.flushLocked()
	case q.timer == nil:
		q.timer = time.AfterFunc(maxDelay, q.flush)
	}
}

func (q *queue) dropLocked(lines []byte) {
	n := bytes.Count(lines, []byte("\n"))
	q.dropped += n
	q.lost += int64(n)
}

func (q *queue) droppedInAll() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}

// flush makes the goroutine write the waiting lines. It doesn't wait for it.
func (q *queue) flush() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flushLocked()
}

func (q *queue) flushLocked() {
	q.due = true
	q.changed.Signal()
}

// close writes the waiting lines and ends the goroutine. It waits at most
// for the patience. If nothing reads the log, the goroutine remains until the
// process ends.
func (q *queue) close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.flushLocked()
	q.mu.Unlock()
	select {
	case <-q.ended:
	case <-time.After(patience):
	}
}

// run writes until the queue is closed and empty.
func (q *queue) run() {
	defer close(q.ended)
	var spare []byte
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for !q.due && !q.closed {
			q.changed.Wait()
		}
		q.due = false
		if q.timer != nil {
			q.timer.Stop()
			q.timer = nil
		}
		if len(q.held) > 0 || q.dropped > 0 {
			spare = q.writeHeld(spare)
		}
		if q.closed && len(q.held) == 0 { // what couldn't be written isn't tried again
			return
		}
	}
}

// writeHeld writes the waiting lines and returns their buffer. mu is held,
// except during the write.
func (q *queue) writeHeld(spare []byte) []byte {
	batch, dropped, cause := q.held, q.dropped, q.cause
	q.held, q.writing, q.dropped, q.cause = spare[:0], len(batch), 0, nil
	q.mu.Unlock()
	lines := len(batch)
	if dropped > 0 {
		batch = append(batch, q.notice(dropped, cause)...)
	}
	n, err := q.w.Write(batch)
	q.mu.Lock()
	q.writing = 0
	if err != nil {
		q.cause = err
		q.dropLocked(batch[min(n, lines):lines])
		if n < len(batch) {
			q.dropped += dropped
		}
	}
	if cap(batch) > maxSpare {
		return nil
	}
	return batch
}
