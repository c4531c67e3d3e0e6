package bridge

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A Traffic is what the calls of one transport on one listener have carried since the
// Server was made, running calls included.
type Traffic struct {
	Listener  string // its name
	Transport string // as in logs
	In, Out   Flow   // from clients to backends, and back
}

// A Flow is what passed in one direction.
type Flow struct {
	Messages, Bytes int64

	// Blocked is how long calls waited because the receiver accepted no more. The
	// Server looks once a second: a call that waits then counts for that second.
	Blocked time.Duration
}

// A trafficKey is what a call's traffic counts with.
type trafficKey struct{ listener, transport string }

func (k trafficKey) compare(other trafficKey) int {
	return cmp.Or(cmp.Compare(k.listener, other.listener), cmp.Compare(k.transport, other.transport))
}

// totals returns the totals that calls with the key count with. The caller holds mu.
func (g *registry) totals(k trafficKey) *Traffic {
	t := g.traffic[k]
	if t == nil {
		t = &Traffic{Listener: k.listener, Transport: k.transport}
		g.traffic[k] = t
	}
	return t
}

// carried adds what the call has carried.
func (t *Traffic) carried(w *watched) {
	t.In.Messages += w.in.messages.Load()
	t.In.Bytes += w.in.bytes.Load()
	t.Out.Messages += w.out.messages.Load()
	t.Out.Bytes += w.out.bytes.Load()
}

// count sets what a Snapshot says of the calls under way and of what all calls have carried. A
// call that ends counts on: either it is in the list of calls, or remove has added it to the
// totals, since both are copied under one lock. So no sum ever falls.
func (g *registry) count(to *Snapshot) {
	running, sums, blocked := g.copyTraffic()
	ages := newAges()
	now := g.now()
	counts := make(map[trafficKey]int)
	for _, w := range running {
		k := trafficKey{w.totals.Listener, w.totals.Transport} // these never change
		counts[k]++
		sums[k].carried(w)
		ages.note(elapsed(now, int64(w.began)))
	}
	to.Ages, to.Blocked = ages, blocked
	to.Calls, to.Traffic = make([]CallCount, 0, len(counts)), make([]Traffic, 0, len(sums))
	for _, k := range slices.SortedFunc(maps.Keys(sums), trafficKey.compare) {
		to.Traffic = append(to.Traffic, *sums[k])
		if n := counts[k]; n > 0 {
			to.Calls = append(to.Calls, CallCount{k.listener, k.transport, n})
		}
	}
}

// copyTraffic returns the calls under way, a copy of the totals without them, and the waits by
// route.
func (g *registry) copyTraffic() ([]*watched, map[trafficKey]*Traffic, []Blocked) {
	room := g.room()
	g.mu.Lock()
	defer g.mu.Unlock()
	sums := make(map[trafficKey]*Traffic, len(g.traffic))
	for k, t := range g.traffic {
		sum := *t
		sums[k] = &sum
	}
	return append(room, g.calls...), sums, g.blocked.list()
}
