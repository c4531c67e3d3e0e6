package bridge

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// Relief is what happens while messages wait for room: calls are ended that hold it.
// It starts with the address that holds most, and there with the call that has stood
// still longest.
//
//   - Of an address that holds more than its share, calls may end for others that
//     hold less than theirs: calls that stand still at once, and all of them if that
//     doesn't help within reliefGrace.
//   - Any call may end that holds memory and has moved nothing for standstill, unless it
//     waits for room itself.
//
// A share is an equal part of limits.buffered_bytes for each address that does
// something, so that an address alone may use everything.
const (
	standstill     = 5 * time.Second
	reliefGrace    = time.Second
	reliefInterval = 100 * time.Millisecond // while somebody waits
	reliefPart     = 16                     // of limits.buffered_bytes that an address over its share gives up at a time
)

// freedBytes is what a call has to hold so that its end is worth something.
const freedBytes = memory.ChunkBytes / 2

// A trace is what changes while a call gets on: the bytes of whole messages both ways,
// when the last piece moved, and the KiB that the call holds.
type trace struct{ in, out, sending, reading, parts, held int64 }

// note looks whether the call got on since the last time. The registry's noting is held.
func (r *running) note(now time.Time) {
	p := &r.call.progress
	at := trace{r.in.bytes.Load(), r.out.bytes.Load(), p.sending.Load(), p.reading.Load(), p.crumbs.Load(), r.call.held.Messages() >> 10}
	if at != r.trace || r.moved.IsZero() {
		r.trace, r.moved = at, now
	}
}

// noteAll looks which calls got on.
func (g *registry) noteAll(calls []*running) {
	g.noting.Lock()
	defer g.noting.Unlock()
	now := time.Now()
	for _, r := range calls {
		r.note(now)
	}
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
	now := time.Now()
	g.noteAll(calls)
	g.noting.Lock()
	held := holdersOf(calls, now)
	g.account.SetSharers(countSharers(held))
	victims := chooseVictims(held, g.account, now)
	g.noting.Unlock()
	for _, r := range victims {
		g.evicted.Add(1)
		r.cancel(report.OverLimit(report.KeyBufferedBytes, report.AnyMoment, "the memory for messages is spent, and what this call holds of it is needed for others"))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.relieving = false
	if g.account.Pressed() {
		g.armRelief(reliefInterval)
	}
	g.changed.Broadcast()
}

// A holder is an address with its calls.
type holder struct {
	messages, all int64 // bytes that it holds
	doing         bool  // it holds messages, or a call of it moved within standstill
	calls         []*running
}

// holdersOf groups calls by their addresses, those that hold most first.
func holdersOf(calls []*running, now time.Time) []*holder {
	by := make(map[*memory.Address]*holder)
	for _, r := range calls {
		of := r.call.held.Owner()
		h := by[of]
		if h == nil {
			h = &holder{messages: of.Messages(), all: of.Held()}
			by[of] = h
		}
		h.doing = h.doing || h.messages > 0 || now.Sub(r.moved) < standstill
		h.calls = append(h.calls, r)
	}
	return slices.SortedFunc(maps.Values(by), func(a, b *holder) int { return cmp.Compare(b.all, a.all) })
}

func countSharers(all []*holder) (n int) {
	for _, h := range all {
		if h.doing {
			n++
		}
	}
	return n
}

// chooseVictims returns the calls that are to end for what others want.
func chooseVictims(all []*holder, a *memory.Account, now time.Time) (victims []*running) {
	for kind, w := range a.Wants() {
		if w.Fair+w.Greedy > 0 {
			victims = append(victims, choose(all, a, memory.Class(kind), w, now)...)
		}
	}
	return victims
}

// choose returns the calls that are to end for those who want some of the kind.
func choose(all []*holder, a *memory.Account, kind memory.Class, w memory.Want, now time.Time) (victims []*running) {
	leaving := int64(0) // what those hold who were ended
	for _, h := range all {
		for _, r := range h.calls {
			if r.evicted {
				leaving += r.call.held.Of(kind)
			}
		}
	}
	end := func(r *running, h *holder) {
		r.evicted = true
		leaving += r.call.held.Of(kind)
		h.messages -= r.call.held.Messages()
		h.all -= r.call.held.Total()
		victims = append(victims, r)
	}
	least := reliefGrace
	if now.Sub(w.Oldest) >= reliefGrace {
		least = 0
	}
	for _, h := range all {
		for r := range h.oldest(kind, now, least) {
			enough := w.Fair
			if enough > 0 && now.Sub(r.moved) >= reliefGrace {
				enough = max(enough, a.Messages/reliefPart)
			}
			if leaving >= enough || !h.hasMoreThanItsShare(a, kind) {
				break
			}
			end(r, h)
		}
	}
	for _, h := range all {
		for r := range h.oldest(kind, now, standstill) {
			if leaving >= w.Fair+w.Greedy {
				break
			}
			if r.call.held.Messages() >= freedBytes && !r.call.held.Waiting() {
				end(r, h)
			}
		}
	}
	return victims
}

// hasMoreThanItsShare reports whether calls of the address may end for others. An
// address alone may have everything.
func (h *holder) hasMoreThanItsShare(a *memory.Account, kind memory.Class) bool {
	switch {
	case a.Alone():
		return false
	case kind == memory.Fixed:
		return h.all > a.ShareOfAll()
	default:
		return h.messages > a.Share()
	}
}

// oldest yields the calls that hold memory of the kind and have stood still for so
// long, those that did for the longest first.
func (h *holder) oldest(kind memory.Class, now time.Time, least time.Duration) func(func(*running) bool) {
	return func(yield func(*running) bool) {
		var some []*running
		for _, r := range h.calls {
			if !r.evicted && r.call.held.Of(kind) >= freedBytes && now.Sub(r.moved) >= least {
				some = append(some, r)
			}
		}
		slices.SortFunc(some, func(a, b *running) int { return a.moved.Compare(b.moved) })
		for _, r := range some {
			if !yield(r) {
				return
			}
		}
	}
}
