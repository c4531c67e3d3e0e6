package main

import (
	"io"
	"sync"
	"time"
)

// A batchingLog writes lines of log. Those of single calls, of which there may
// be tens of thousands a second, wait for one another for a moment; any other
// line goes out at once, behind what waits.
type batchingLog struct {
	w io.Writer

	mu    sync.Mutex
	held  []byte
	timer *time.Timer // flushes; nil: nothing waits
}

// What waits at most, and how long.
const (
	maxHeldLog  = 32 << 10
	maxLogDelay = 100 * time.Millisecond
)

// Write writes a line and all before it.
func (b *batchingLog) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.flush(); err != nil {
		return 0, err
	}
	return b.w.Write(line)
}

// calls is the writer for lines that may wait.
func (b *batchingLog) calls() io.Writer { return callLines{b} }

type callLines struct{ b *batchingLog }

func (c callLines) Write(line []byte) (int, error) {
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = append(b.held, line...)
	if len(b.held) >= maxHeldLog {
		return len(line), b.flush()
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(maxLogDelay, b.close)
	}
	return len(line), nil
}

// close writes what waits.
func (b *batchingLog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.flush() // there is nowhere to tell it
}

func (b *batchingLog) flush() error {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if len(b.held) == 0 {
		return nil
	}
	_, err := b.w.Write(b.held)
	b.held = b.held[:0]
	return err
}
