package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An endGuard lets the end of a call's context interrupt the blocked reads and writes
// of the call's downstream. A read ends at once. A write gets a moment, or the time that
// the cause gives it, since culvert can tell the client the end only after a whole write.
type endGuard struct {
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

// watch ties the guard to the context until release.
func (g *endGuard) watch(ctx context.Context, cut func()) {
	g.cut = cut
	g.unwatch = context.AfterFunc(ctx, func() { g.contextEnded(graceOf(context.Cause(ctx))) })
}

// errEnded reports that a write was not made or not finished because the call had
// ended.
var errEnded = errors.New("the call ended before the write")

// write runs a write to the client. If the context had already ended, it runs nothing
// and returns errEnded. It also returns errEnded if the context's end cut the write.
func (g *endGuard) write(do func() error) error {
	if !g.begin() {
		return errEnded
	}
	err := do()
	if !g.end() {
		return errEnded
	}
	return err
}

// lastWrite runs the write of the call's end, and stops watching. If the context has
// ended, late is true: then only do itself bounds its time. If an earlier write was
// cut, lastWrite runs nothing and returns errEnded.
func (g *endGuard) lastWrite(do func(late bool) error) error {
	if g.begin() {
		err := do(false)
		if !g.end() {
			err = errEnded
		}
		g.release()
		return err
	}
	if !g.release() {
		return errEnded
	}
	return do(true)
}

// read runs a read that the end of the context interrupts with cut.
func (g *endGuard) read(cut func(), do func() error) error {
	g.beginRead(cut)
	defer g.endRead()
	return do()
}

// beginRead announces a read that the end of the context cuts.
func (g *endGuard) beginRead(cut func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cutRead = cut
	if g.ended {
		cut()
	}
}

// endRead notes that the read has returned; nothing cuts after it.
func (g *endGuard) endRead() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cutRead = nil
}

// begin announces a write. It returns false when the context has ended: then only the
// end may be written.
func (g *endGuard) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.writing = true
	return true
}

// end reports whether the write was not cut.
func (g *endGuard) end() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writing = false
	return !g.broken
}

// graceOf returns how long a blocked write of a call that ends with the cause may go on.
func graceOf(cause error) time.Duration {
	var f *report.Fault
	if errors.As(cause, &f) {
		return max(writeGrace, time.Until(f.WriteBy))
	}
	return writeGrace
}

func (g *endGuard) contextEnded(grace time.Duration) {
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
func (g *endGuard) release() bool {
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
