package bridge

import (
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// relieve runs every reliefInterval while an address within its share waits for room,
// and every calmInterval while only others wait.
const (
	reliefInterval = 100 * time.Millisecond
	calmInterval   = time.Second
)

// A trace is a call's progress at one look: bytes of whole messages each way, the
// times at which the last pieces moved, and KiB that have arrived and are held.
type trace struct {
	in, out     int64
	marks       progress.Marks
	parts, held int64
}

// A noted is what the last look noted of a call.
type noted struct {
	trace
	memory.Candidate
}

// noteAll notes which calls made progress since the last time, and returns all that may
// be ended. noting is held.
func (g *registry) noteAll(calls []*watched) []*memory.Candidate {
	now := time.Now()
	all := make([]*memory.Candidate, 0, len(calls))
	for _, w := range calls {
		n := w.noted
		if n == nil { // as for most short calls
			n = &noted{Candidate: memory.Candidate{Of: w, Held: w.held}}
			w.noted = n
		}
		all = append(all, &n.Candidate)
		at := trace{w.in.bytes.Load(), w.out.bytes.Load(), w.progress.Marks(), w.held.InParts() >> 10, w.held.Arrived() >> 10}
		if at != n.trace || n.Moved.IsZero() {
			n.trace, n.Moved = at, now
		} else {
			w.held.Trim()
		}
	}
	return g.idle(all)
}

// press has relieve run soon, because somebody waits for room. The account's lock may
// be held.
func (g *registry) press() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pressed = true
	g.armRelief(max(0, reliefInterval-time.Since(g.relieved)))
}

// armRelief runs relieve after a time, or earlier. mu is held.
func (g *registry) armRelief(after time.Duration) {
	if g.relieving || g.stopped {
		return
	}
	if g.relief != nil && !g.relief.Stop() {
		return // it is about to run
	}
	g.relief = time.AfterFunc(after, g.relieve)
}

// relieve ends calls, and runs again later if somebody still waits.
func (g *registry) relieve() {
	calls, over := g.beginRelief()
	if over {
		return
	}
	urgent := false
	defer func() { g.endRelief(urgent) }()
	defer g.panics.Catch("freeing memory", nil)
	var victims []*memory.Candidate
	victims, urgent = g.choose(calls)
	for _, v := range victims {
		v.Of.Evict()
	}
}

// choose returns what must end.
func (g *registry) choose(calls []*watched) (victims []*memory.Candidate, urgent bool) {
	g.noting.Lock()
	defer g.noting.Unlock()
	return g.account.Choose(g.noteAll(calls), time.Now())
}

// beginRelief returns the calls to choose from.
func (g *registry) beginRelief() (calls []*watched, over bool) {
	room := g.room()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.relief = nil
	if g.stopped {
		g.changed.Broadcast()
		return nil, true
	}
	g.relieving, g.pressed = true, false
	return append(room, g.calls...), false
}

// endRelief ends relieve, and has it run again later if somebody still waits.
func (g *registry) endRelief(urgent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.relieving, g.relieved = false, time.Now()
	switch {
	case !g.account.Pressed():
	case urgent || g.pressed:
		g.armRelief(reliefInterval)
	default:
		g.armRelief(calmInterval)
	}
	g.changed.Broadcast()
}

// stopRelief stops relieve for good.
func (g *registry) stopRelief() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	if g.relief != nil && g.relief.Stop() {
		g.relief = nil
	}
}

// Evict ends a call to free memory for others. Its client has evictedGrace to receive
// the end. Its messages no longer count; they are freed when the call's goroutines
// return.
func (w *watched) Evict() {
	if w.evicted.Swap(true) {
		return
	}
	w.registry.evicted.Add(1)
	w.cancel(report.OverLimit(report.KeyBufferedBytes, report.AnyMoment, "the memory for messages is full, and culvert ended this call to free memory for others"))
	w.held.SettleMessages()
}
