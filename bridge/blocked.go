package bridge

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// MaxRoutes is how many pairs of a route and a backend have counts of their own. All
// others count together: a configuration may have thousands.
const MaxRoutes = 200

// A Blocked is how long the calls of a route to a backend waited because the receiver of a
// message accepted no more. Flow.Blocked says how that is counted.
type Blocked struct {
	Route, Backend string // their names; Route is empty for calls without a route

	// Others means that the calls are those of all pairs without counts of their own,
	// and that the names are empty. They are those that met the first wait after MaxRoutes
	// others, and those that Apply has removed while calls still ran.
	Others bool

	In, Out time.Duration // messages from clients to the backend, and back
}

// A routeKey is what a call's waits count with.
type routeKey struct{ route, backend string }

// blockedCounts has the counts of the pairs that have waited. The registry's mu guards it.
type blockedCounts struct {
	configured func(routeKey) bool // reports whether new calls can have the pair; set once
	by         map[routeKey]*Blocked
	own        int     // pairs in by that don't count with others
	others     Blocked // Others is true once it is used
}

// of returns what waits of the pair count with.
func (c *blockedCounts) of(k routeKey) *Blocked {
	if b := c.by[k]; b != nil {
		return b
	}
	if c.by == nil {
		c.by = make(map[routeKey]*Blocked)
	}
	b := &c.others
	if c.own < MaxRoutes && c.configured(k) {
		b = &Blocked{Route: k.route, Backend: k.backend}
		c.own++
	} else {
		b.Others = true
	}
	c.by[k] = b
	return b
}

// forget removes the pairs that aren't configured any more, which makes room for others.
func (c *blockedCounts) forget() {
	maps.DeleteFunc(c.by, func(k routeKey, b *Blocked) bool {
		if b == &c.others {
			return true // it may get its own by now
		}
		gone := !c.configured(k)
		if gone {
			c.own--
		}
		return gone
	})
}

// list returns the counts, sorted by route, then backend; the others are last.
func (c *blockedCounts) list() []Blocked {
	all := make([]Blocked, 0, c.own+1)
	for _, b := range c.by {
		if b != &c.others {
			all = append(all, *b)
		}
	}
	slices.SortFunc(all, func(a, b Blocked) int {
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Backend, b.Backend))
	})
	if c.others.Others {
		all = append(all, c.others)
	}
	return all
}

// forgetRoutes forgets counts of routes and backends that Apply has removed.
func (g *registry) forgetRoutes() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocked.forget()
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
	k, ok := w.routeKey()
	g.mu.Lock()
	defer g.mu.Unlock()
	byRoute := new(Blocked) // nobody's
	if ok {
		byRoute = g.blocked.of(k)
	}
	if in {
		w.totals.In.Blocked += lookInterval
		byRoute.In += lookInterval
	}
	if out {
		w.totals.Out.Blocked += lookInterval
		byRoute.Out += lookInterval
	}
}

// routeKey returns what the call's waits count with, if it has a backend.
func (w *watched) routeKey() (k routeKey, ok bool) {
	c, ok := w.held.Call.(*call)
	if !ok || stage(w.stage.Load()) != stageOpen || c.info.Own { // a request to the web server, before its stream is open, or a call that culvert answers itself
		return k, false
	}
	c.naming.Lock()
	defer c.naming.Unlock()
	return routeKey{c.info.Route, c.info.Backend}, true
}

// blocked reports whether a message waits because its receiver accepts no more: the
// backend (in), or the client (out).
func (w *watched) blocked() (in, out bool) {
	p := &w.progress
	out = p.BlockedOut.Load() || w.conn != nil && p.Sending.Load() > 0 && !socket.Writable(w.conn)
	return p.BlockedIn.Load(), out
}

// has reports whether new calls can have the route and the backend.
func (p *policy) has(k routeKey) bool {
	if p.routes == nil {
		return k == routeKey{backend: p.router.unrouted}
	}
	for i := range p.routes.byIndex {
		if r := &p.routes.byIndex[i]; r.name == k.route {
			return r.offers(k.backend)
		}
	}
	return false
}
