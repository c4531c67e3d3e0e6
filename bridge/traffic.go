package bridge

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
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

// count returns the numbers of calls under way, and what all calls have carried. Both
// are sorted by listener, then transport. A call that ends counts on: either it is in the
// list of calls, or remove has added it to the totals, since both are copied under one lock.
// So no sum ever falls.
func (g *registry) count() ([]CallCount, []Traffic) {
	running, sums := g.copyTraffic()
	counts := make(map[trafficKey]int)
	for _, w := range running {
		k := trafficKey{w.totals.Listener, w.totals.Transport} // these never change
		counts[k]++
		sums[k].carried(w)
	}
	calls, traffic := make([]CallCount, 0, len(counts)), make([]Traffic, 0, len(sums))
	for _, k := range slices.SortedFunc(maps.Keys(sums), trafficKey.compare) {
		traffic = append(traffic, *sums[k])
		if n := counts[k]; n > 0 {
			calls = append(calls, CallCount{k.listener, k.transport, n})
		}
	}
	return calls, traffic
}

// copyTraffic returns the calls under way, and a copy of the totals without them.
func (g *registry) copyTraffic() ([]*watched, map[trafficKey]*Traffic) {
	room := g.room()
	g.mu.Lock()
	defer g.mu.Unlock()
	sums := make(map[trafficKey]*Traffic, len(g.traffic))
	for k, t := range g.traffic {
		sum := *t
		sums[k] = &sum
	}
	return append(room, g.calls...), sums
}

// countBlocked adds the time between two looks for each direction in which one of the
// calls waits for the receiver, and notes what each call waits for.
func (g *registry) countBlocked(calls []*watched) {
	now := time.Now().Unix()
	for _, w := range calls {
		in, out := w.blocked()
		if in || out {
			g.noteBlocked(w, in, out)
		}
		w.noteWait(now, in, out)
	}
}

func (g *registry) noteBlocked(w *watched, in, out bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if in {
		w.totals.In.Blocked += lookInterval
	}
	if out {
		w.totals.Out.Blocked += lookInterval
	}
}

// blocked reports whether a message waits because its receiver accepts no more: the
// backend (in), or the client (out).
func (w *watched) blocked() (in, out bool) {
	p := &w.progress
	out = p.BlockedOut.Load() || w.conn != nil && p.Sending.Load() > 0 && !socket.Writable(w.conn)
	return p.BlockedIn.Load(), out
}
