package bridge

import (
	"context"
	"sync"
	"time"
)

// A writeGuard lets the end of a call's context break into a blocked write,
// and only into a blocked one: a write that still gets on is given a moment,
// since the client can be told the end only if it was not cut.
type writeGuard struct {
	cut func() // makes a blocked write return, for good

	mu      sync.Mutex
	ended   bool
	writing bool
	broken  bool
	done    bool
	timer   *time.Timer
	unwatch func() bool
	cutting sync.WaitGroup
}

// watch ties the guard to the context until release.
func (g *writeGuard) watch(ctx context.Context, cut func()) {
	g.cut = cut
	g.unwatch = context.AfterFunc(ctx, g.contextEnded)
}

// begin announces a write. It returns false when the context has ended, and
// nothing but the end may be written any more.
func (g *writeGuard) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.writing = true
	return true
}

// end returns whether the write was left alone.
func (g *writeGuard) end() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writing = false
	return !g.broken
}

func (g *writeGuard) contextEnded() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	if !g.writing || g.done {
		return
	}
	g.cutting.Add(1)
	g.timer = time.AfterFunc(writeGrace, func() {
		defer g.cutting.Done()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.writing && !g.done {
			g.broken = true
			g.cut()
		}
	})
}

// release ends the watch: from now on only the caller writes. It returns
// whether the way to the client is still whole.
func (g *writeGuard) release() bool {
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
