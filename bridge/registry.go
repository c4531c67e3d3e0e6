package bridge

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A registry has the calls under way. While there are any, it checks them once a
// second: this one timer replaces all the timers that calls would need.
type registry struct {
	account *memory.Account
	panics  *report.Panics
	clock   atomic.Int64 // seconds of looks so far, from 1; a coarse clock that is cheap to read

	mu      sync.Mutex
	changed sync.Cond               // a call ended, or a look
	calls   []*watched              // in no order; each knows its index
	traffic map[trafficKey]*Traffic // of calls that have ended; Blocked: of all
	timer   *time.Timer             // nil: no calls, no looks
	looking bool

	relief    *time.Timer // nil: nobody waits for room, or relieve runs
	relieving bool
	pressed   bool      // since relieve began
	relieved  time.Time // when it last ended
	stopped   bool      // it doesn't run any more

	idle    func([]*memory.Candidate) []*memory.Candidate // adds connections without calls
	noting  sync.Mutex                                    // held for noteAll, Count and Choose
	evicted atomic.Int64                                  // calls that were ended to free memory for others
}

// newRegistry returns a registry without calls. idle adds the connections without calls
// to those that may be ended.
func newRegistry(account *memory.Account, panics *report.Panics, idle func([]*memory.Candidate) []*memory.Candidate) *registry {
	g := &registry{account: account, panics: panics, idle: idle, traffic: make(map[trafficKey]*Traffic)}
	g.changed.L = &g.mu
	account.OnPressed = g.press
	g.clock.Store(1)
	return g
}

const lookInterval = time.Second

func (g *registry) now() int64 { return g.clock.Load() }

// add takes in a call, whose traffic counts with the key.
func (g *registry) add(w *watched, k trafficKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.registry, w.began = g, g.now()
	w.lastSeen.Store(w.began)
	w.index = len(g.calls)
	g.calls = append(g.calls, w)
	w.totals = g.totals(k)
	if g.timer == nil && !g.looking {
		g.timer = time.AfterFunc(lookInterval, g.look)
	}
}

func (g *registry) remove(w *watched) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(w)
	w.totals.carried(w)
	if len(g.calls) == 0 && g.timer != nil && g.timer.Stop() {
		g.timer = nil
	}
	g.changed.Broadcast()
}

// forget takes a call out of calls. mu is held.
func (g *registry) forget(w *watched) {
	last := len(g.calls) - 1
	g.calls[w.index] = g.calls[last]
	g.calls[w.index].index = w.index
	g.calls[last] = nil
	g.calls = g.calls[:last]
	if c := cap(g.calls); c >= leastCalls && last < c/4 { // so that many calls take no memory after their end
		g.calls = append(make([]*watched, 0, c/2), g.calls...)
	}
}

// leastCalls is the capacity that calls keep.
const leastCalls = 1 << 10

// look checks each call for a reason to end. It copies the calls first: questions to
// the kernel must not delay calls that begin and end.
func (g *registry) look() {
	defer g.looked()
	defer g.panics.Catch("the look at all calls", nil)
	now := g.clock.Add(1)
	beats := 0
	calls := g.beginLook()
	for _, w := range calls {
		if g.lookAt(w, now) {
			if beats++; beats%beatsAtOnce == 0 {
				runtime.Gosched()
			}
		}
	}
	g.countBlocked(calls)
	g.noting.Lock()
	defer g.noting.Unlock()
	g.account.Count(g.noteAll(calls), time.Now())
}

// beginLook returns the calls to look at.
func (g *registry) beginLook() []*watched {
	room := g.room()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer, g.looking = nil, true
	return append(room, g.calls...)
}

// lookAt ends a call that has a reason to end, or in which the look panics. It reports
// whether it has begun a beat.
func (g *registry) lookAt(w *watched, now int64) (beats bool) {
	defer g.panics.Catch("the look at a call", func(f *report.Fault) { w.cancel(f) })
	if cause := w.look(now); cause != nil {
		w.cancel(cause)
		return false
	}
	return w.beatDue(now) && w.beats.start()
}

// looked ends look, and has it run again later.
func (g *registry) looked() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looking = false
	if len(g.calls) > 0 {
		g.timer = time.AfterFunc(lookInterval, g.look)
	}
	g.changed.Broadcast()
}

// list returns the calls under way.
func (g *registry) list() []*watched {
	room := g.room()
	g.mu.Lock()
	defer g.mu.Unlock()
	return append(room, g.calls...)
}

// room returns an empty slice for the calls. The allocation may take longer than the copy, so
// it is made before the lock is held. A few calls may begin meanwhile.
func (g *registry) room() []*watched {
	g.mu.Lock()
	n := len(g.calls)
	g.mu.Unlock()
	return make([]*watched, 0, n+n/8)
}

// cancelAll ends every call with the cause.
func (g *registry) cancelAll(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.calls {
		w.cancel(cause)
	}
}

// cancelOver ends the calls with the cause, in random order and at random times from now
// to last. It returns when it has ended all of them, or with the context.
func (g *registry) cancelOver(ctx context.Context, last time.Time, cause error, random func() float64) {
	calls := g.list()
	for i := len(calls) - 1; i > 0; i-- { // Fisher and Yates
		j := int(random() * float64(i+1))
		calls[i], calls[j] = calls[j], calls[i]
	}
	first := time.Now()
	each := last.Sub(first) / time.Duration(max(len(calls), 1))
	for i, w := range calls {
		at := first.Add(time.Duration((float64(i) + random()) * float64(each)))
		if time.Until(at) > 0 {
			until, stop := context.WithDeadline(ctx, at)
			err := g.wait(until)
			stop()
			if err == nil || ctx.Err() != nil {
				return // none is left, or no time
			}
		}
		w.cancel(cause)
	}
}

// wait returns when no call is under way and look isn't running, or with the context's
// error.
func (g *registry) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.changed.Broadcast()
	})
	defer stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.calls) > 0 || g.looking || g.relieving || g.stopped && g.relief != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		g.changed.Wait()
	}
	return nil
}
