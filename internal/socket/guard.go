package socket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Guard lets the end of a context interrupt the blocked reads and writes of a client's
// connection or stream. A read ends at once. A write gets the time that grace returns,
// since the client can be told the end only after a whole write.
type Guard struct {
	cut func() // makes a blocked write return, for good

	mu      sync.Mutex
	cutRead func()        // makes the read under way return; nil: none is
	between chan struct{} // closed at the end of the WriteBetween under way; nil: none is
	last    bool          // LastWrite has begun
	ended   bool
	writing bool
	late    bool // the write under way has had its time
	broken  bool
	done    bool
	timer   *time.Timer
	unwatch func() bool
	cutting sync.WaitGroup
}

// Watch ties the guard to the context until LastWrite. grace returns how long a blocked
// write may go on after the context has ended with the cause. Then cut makes it return. A
// write that doesn't wait for the client isn't blocked, however long it takes on a busy
// machine: cut must leave that alone.
func (g *Guard) Watch(ctx context.Context, grace func(cause error) time.Duration, cut func()) {
	g.cut = cut
	g.unwatch = context.AfterFunc(ctx, func() { g.contextEnded(grace(context.Cause(ctx))) })
}

// ErrEnded reports that a write was not made or not finished because the call had
// ended.
var ErrEnded = errors.New("the call ended before the write")

// ErrNothingSent is in the error of a write that was cut while its peer accepted nothing: no
// part of it was sent, and the end can follow. The guard adds ErrEnded.
var (
	ErrNothingSent = errors.New("none of it was sent")
	errEndedBefore = fmt.Errorf("%w: %w", ErrEnded, ErrNothingSent)
)

// Write runs a write to the client. If the context had already ended, it runs nothing
// and returns ErrEnded. It also returns ErrEnded if the context's end cut the write.
func (g *Guard) Write(do func() error) error {
	if !g.begin(false) {
		return ErrEnded
	}
	return g.end(do())
}

// WriteBetween runs a write beside the owner of the others: they wait for it. If one of
// them is under way, or the last one was, or if the context has ended, it runs nothing.
func (g *Guard) WriteBetween(do func() error) error {
	done, ok := g.beginBetween()
	if !ok {
		return nil
	}
	defer g.endBetween(done)
	return g.end(do())
}

func (g *Guard) beginBetween() (done chan struct{}, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.writing || g.last || g.ended || g.between != nil {
		return nil, false
	}
	g.writing, g.between = true, make(chan struct{})
	return g.between, true
}

func (g *Guard) endBetween(done chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.between = nil
	close(done)
}

// LastWrite runs the write of the end, and stops watching. If the context has
// ended, late is true: then only do itself bounds its time. If an earlier write was
// cut in its middle, LastWrite runs nothing and returns ErrEnded.
func (g *Guard) LastWrite(do func(late bool) error) error {
	if g.begin(true) {
		err := g.end(do(false))
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
	g.setCutRead(cut)
	defer g.setCutRead(nil)
	return do()
}

// setCutRead announces a read that the end of the context cuts; nil: it has returned, and nothing cuts it.
func (g *Guard) setCutRead(cut func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cutRead = cut
	if g.ended && cut != nil {
		cut()
	}
}

// begin announces a write. It returns false when the context has ended: then only the
// end may be written, and not even that after a write that was broken off.
func (g *Guard) begin(last bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = last
	for g.between != nil {
		between := g.between
		g.mu.Unlock()
		<-between // the end of the context cuts it
		g.mu.Lock()
	}
	g.broken = g.broken || g.writing // a panic broke the last write off
	if g.ended || g.broken {
		return false
	}
	g.writing = true
	return true
}

// end notes how the write ended, and returns its error. That is ErrEnded if it was cut.
func (g *Guard) end(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writing = false
	if g.late && err != nil {
		if errors.Is(err, ErrNothingSent) {
			return errEndedBefore
		}
		g.broken = true
		return ErrEnded
	}
	return err
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
			g.late = true
			g.cut()
		}
	})
}

// Stop stops watching, in place of LastWrite. It cuts a WriteBetween that is under way.
func (g *Guard) Stop() {
	g.mu.Lock()
	g.last = true
	between := g.between
	if between != nil {
		g.late = true
		g.cut()
	}
	g.mu.Unlock()
	if between != nil {
		<-between
	}
	g.release()
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
