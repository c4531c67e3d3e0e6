package memory

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"
)

// Relief frees memory while others wait for room: it ends calls that hold memory, and
// connections without calls. It starts with the address that holds most, and there with
// the call that has stood still longest.
//
//   - At an address that holds more than its share, calls may end for others that hold
//     less than theirs: calls that stand still at once, and all of them if that doesn't
//     help within grace.
//   - Any call may end that holds at least worthwhile bytes of messages and has moved
//     nothing for standstill, unless it waits for room itself.
//
// A share is an equal part of three quarters of the room for each active address. An
// address alone may use everything: only Unread ends calls of it that move.
const (
	standstill  = 5 * time.Second
	grace       = time.Second
	leavingTime = 2 * time.Second // an ended candidate that still holds memory then may hold it for long
	reliefPart  = 8               // the part of the messages' room that an address over its share gives up at a time
	muchPart    = 8               // of all room: an address that holds more counts, even if it is inactive
	worthwhile  = ChunkBytes / 2  // how much a call must hold for its end to be useful
)

// A Candidate is a call that may be ended, or a connection without one. It isn't safe for
// concurrent use: bridge holds one lock for Moved, Count and Choose.
type Candidate struct {
	Of    evictable
	Held  *Entry
	Moved time.Time // when it last made progress
	ended time.Time // when Choose returned it; zero: never
}

// An evictable can be ended to free memory for others.
type evictable interface{ Evict() }

// Choose does the same as Count, and returns the candidates that must end now. It
// returns each candidate once. urgent: an address within its share waits.
func (a *Account) Choose(all []*Candidate, now time.Time) (victims []*Candidate, urgent bool) {
	holders := a.count(all, now)
	for kind, w := range a.wants() {
		urgent = urgent || w.Fair > 0
		if w.Fair+w.Greedy > 0 {
			victims = append(victims, a.choose(holders, Class(kind), w, now)...)
		}
	}
	return victims, urgent
}

// A holder is an address with its calls and idle connections.
type holder struct {
	address       *Address
	messages, all int64        // bytes that it holds
	large         [Small]int64 // of messages: large ones by their direction
	doing         bool         // it holds messages, or a candidate of it moved within standstill
	candidates    []*Candidate
}

// holdersOf groups candidates by their addresses.
func (a *Account) holdersOf(all []*Candidate, now time.Time) []*holder {
	by := make(map[*Address]*holder)
	for _, c := range all {
		of := c.Held.Owner()
		if of == &a.unknown {
			continue // it isn't admitted, and holds nothing
		}
		h := by[of]
		if h == nil {
			h = &holder{address: of, messages: of.messages(), all: of.all(), large: [Small]int64{of.held[Request].Load(), of.held[Reply].Load()}}
			by[of] = h
		}
		h.doing = h.doing || h.messages > 0 || now.Sub(c.Moved) < standstill
		h.candidates = append(h.candidates, c)
	}
	return slices.Collect(maps.Values(by))
}

// Count sets how many addresses share the room from now on: the active ones, those that
// hold much, and one that was turned away.
func (a *Account) Count(all []*Candidate, now time.Time) { a.count(all, now) }

func (a *Account) count(all []*Candidate, now time.Time) []*holder {
	holders, n := a.holdersOf(all, now), 0
	creditor := a.creditor()
	for _, h := range holders {
		if h.doing || h.all > a.total.Load()/muchPart || h.address == creditor {
			n++
		}
		if h.address == creditor {
			creditor = nil
		}
	}
	if creditor != nil {
		n++ // it was turned away
	}
	a.setSharers(n)
	return holders
}

// setSharers sets how many addresses share the room.
func (a *Account) setSharers(n int) { a.sharers.Store(int64(max(n, 1))) }

// choose returns the candidates that must end for waiters of the kind.
func (a *Account) choose(all []*holder, kind Class, w want, now time.Time) (victims []*Candidate) {
	leaving := int64(0) // bytes held by candidates that were ended
	for _, h := range all {
		for _, c := range h.candidates {
			if now.Sub(c.ended) < leavingTime {
				leaving += c.Held.wouldFree(kind)
			}
		}
	}
	end := func(c *Candidate, h *holder) {
		c.ended = now
		leaving += c.Held.wouldFree(kind)
		h.messages -= c.Held.Messages()
		h.all -= c.Held.Total()
		for of := range h.large {
			h.large[of] -= c.Held.wouldFree(Class(of))
		}
		victims = append(victims, c)
	}
	least := grace
	if now.Sub(w.Oldest) >= grace {
		least = 0
	}
	for _, h := range mostOf(all, kind) {
		for c := range h.oldest(kind, now, least) {
			enough := w.Fair
			if enough > 0 && now.Sub(c.Moved) >= grace {
				enough = max(enough, a.Messages()/reliefPart)
			}
			if leaving >= enough || !a.overShare(h, kind) {
				break
			}
			end(c, h)
		}
	}
	for _, h := range mostOf(all, kind) {
		wanted := w.Fair
		if a.sharers.Load() == 1 || a.overShare(h, kind) {
			wanted += w.Greedy
		}
		for c := range h.oldest(kind, now, standstill) {
			if leaving >= wanted {
				break
			}
			if c.Held.Messages() >= worthwhile && !c.Held.Waiting() {
				end(c, h)
			}
		}
	}
	return victims
}

// overShare reports whether candidates of the address may end for others. An address
// alone may have everything.
func (a *Account) overShare(h *holder, kind Class) bool {
	return a.sharers.Load() > 1 && h.holds(kind) > a.share(kind)
}

// holds returns how many bytes of the kind the address holds.
func (h *holder) holds(kind Class) int64 {
	switch kind {
	case Fixed:
		return h.all
	case Small:
		return h.messages
	default:
		return h.large[kind]
	}
}

// mostOf returns the holders, those that hold most of the kind first.
func mostOf(all []*holder, kind Class) []*holder {
	return slices.SortedFunc(slices.Values(all), func(a, b *holder) int { return cmp.Compare(b.holds(kind), a.holds(kind)) })
}

// oldest yields the candidates that hold memory of the kind and have stood still for at
// least that long, the longest first.
func (h *holder) oldest(kind Class, now time.Time, least time.Duration) iter.Seq[*Candidate] {
	return func(yield func(*Candidate) bool) {
		var some []*Candidate
		for _, c := range h.candidates {
			if c.ended.IsZero() && c.Held.wouldFree(kind) > 0 && now.Sub(c.Moved) >= least {
				some = append(some, c)
			}
		}
		slices.SortFunc(some, func(a, b *Candidate) int { return a.Moved.Compare(b.Moved) })
		for _, c := range some {
			if !yield(c) {
				return
			}
		}
	}
}
