package bridge

import (
	"maps"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// reliefInterval is how often calls are ended while somebody waits for room.
const reliefInterval = 100 * time.Millisecond

// A trace is what changes while a call gets on: the bytes of whole messages both ways,
// when the last piece moved, and the KiB that have come for it.
type trace struct{ in, out, sending, reading, parts, held int64 }

// noteAll looks which calls got on since the last time, and how many addresses there are.
func (g *registry) noteAll(calls []*running) {
	g.noting.Lock()
	defer g.noting.Unlock()
	now := time.Now()
	all := make([]*memory.Candidate, 0, len(calls))
	for _, r := range calls {
		r.relief.Held = r.call.held
		all = append(all, &r.relief)
		p := &r.call.progress
		at := trace{r.in.bytes.Load(), r.out.bytes.Load(), p.sending.Load(), p.reading.Load(), p.crumbs.Load(), r.call.held.Arrived() >> 10}
		if at != r.trace || r.relief.Moved.IsZero() {
			r.trace, r.relief.Moved = at, now
		}
	}
	g.account.Count(all, now)
}

// press has calls ended soon, because somebody waits for room. The account's lock
// may be held.
func (g *registry) press() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armRelief(0)
}

// armRelief starts the timer, unless it runs. mu is held.
func (g *registry) armRelief(after time.Duration) {
	if g.relief == nil && !g.relieving && len(g.calls) > 0 {
		g.relief = time.AfterFunc(after, g.relieve)
	}
}

// relieve ends calls, and looks again later if somebody still waits.
func (g *registry) relieve() {
	g.mu.Lock()
	g.relief, g.relieving = nil, true
	calls := slices.Collect(maps.Keys(g.calls))
	g.mu.Unlock()
	g.noteAll(calls)
	by := make(map[*memory.Candidate]*running, len(calls))
	for _, r := range calls {
		by[&r.relief] = r
	}
	g.noting.Lock()
	victims := g.account.Choose(slices.Collect(maps.Keys(by)), time.Now())
	g.noting.Unlock()
	for _, v := range victims {
		g.evicted.Add(1)
		// Its client is told within half a second. Its messages are dropped at once, and
		// so are those that grpc-go has.
		by[v].cancel(report.OverLimit(report.KeyBufferedBytes, report.AnyMoment, "the memory for messages is spent, and what this call holds of it is needed for others"))
		v.Held.SettleMessages()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.relieving = false
	if g.account.Pressed() {
		g.armRelief(reliefInterval)
	}
	g.changed.Broadcast()
}
