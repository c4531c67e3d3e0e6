package socket

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Guard lets the end of a context interrupt the blocked reads and writes of a client's
// connection or stream. A read ends at once. A write gets the time that grace returns,
// since the client can be told the end only after a whole write.
type Guard struct {
	cut func() // makes a blocked write return, for good

	mu      sync.Mutex
	cutRead func() // makes the read under way return; nil: none is
	ended   bool
	writing bool
	broken  bool
	done    bool
	timer   *time.Timer
	unwatch func() bool
	cutting sync.WaitGroup
}

// Watch ties the guard to the context until LastWrite. grace returns how long a blocked
// write may go on after the context has ended with the cause. Then cut makes it return.
func (g *Guard) Watch(ctx context.Context, grace func(cause error) time.Duration, cut func()) {
	g.cut = cut
	g.unwatch = context.AfterFunc(ctx, func() { g.contextEnded(grace(context.Cause(ctx))) })
}

// ErrEnded reports that a write was not made or not finished because the call had
// ended.
var ErrEnded = errors.New("the call ended before the write")

// Write runs a write to the client. If the context had already ended, it runs nothing
// and returns ErrEnded. It also returns ErrEnded if the context's end cut the write.
func (g *Guard) Write(do func() error) error {
	if !g.begin() {
		return ErrEnded
	}
	err := do()
	if !g.end() {
		return ErrEnded
	}
	return err
}

// LastWrite runs the write of the end, and stops watching. If the context has
// ended, late is true: then only do itself bounds its time. If an earlier write was
// cut, LastWrite runs nothing and returns ErrEnded.
func (g *Guard) LastWrite(do func(late bool) error) error {
	if g.begin() {
		err := do(false)
		if !g.end() {
			err = ErrEnded
		}
		g.release()
		return err
	}
	if !g.release() {
		return ErrEnded
	}
	return do(true)
}

// Read runs a read that the end of the context interrupts with cut.
func (g *Guard) Read(cut func(), do func() error) error {
	g.beginRead(cut)
	defer g.endRead()
	return do()
}

// beginRead announces a read that the end of the context cuts.
func (g *Guard) beginRead(cut func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cutRead = cut
	if g.ended {
		cut()
	}
}

// endRead notes that the read has returned; nothing cuts after it.
func (g *Guard) endRead() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cutRead = nil
}

// begin announces a write. It returns false when the context has ended: then only the
// end may be written.
func (g *Guard) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.writing = true
	return true
}

// end reports whether the write was not cut.
func (g *Guard) end() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writing = false
	return !g.broken
}

func (g *Guard) contextEnded(grace time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	if g.cutRead != nil {
		g.cutRead()
	}
	if !g.writing || g.done {
		return
	}
	g.cutting.Add(1)
	g.timer = time.AfterFunc(grace, func() {
		defer g.cutting.Done()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.writing && !g.done {
			g.broken = true
			g.cut()
		}
	})
}

// release stops watching: from now on only the caller writes. It reports whether the
// way to the client is still whole.
func (g *Guard) release() bool {
	if g.unwatch != nil {
		g.unwatch()
	}
	g.mu.Lock()
	g.done, g.ended = true, true
	if g.timer != nil && g.timer.Stop() {
		g.cutting.Done()
	}
	broken := g.broken
	g.mu.Unlock()
	g.cutting.Wait()
	return !broken
}
