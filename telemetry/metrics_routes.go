package telemetry

import (
	"iter"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Route is a route of the configuration, and the names of its backends. Without routes,
// there is one without a name.
type Route struct {
	Name     string
	Backends []string
}

// SetRoutes replaces the routes whose calls may have time series of their own, while calls
// run. The series of those that are missing end. Calls of unknown routes count as other.
func (m *Metrics) SetRoutes(routes []Route) {
	t := &m.routes
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.all()
	next := newRouteSlots(routes)
	for name, r := range before {
		for pair, slot := range r.slots(name) {
			s := slot.Load()
			if s == nil || s.other { // it may get its own by now
				continue
			}
			if stays := next.find(pair); stays != nil {
				stays.Store(s)
				continue
			}
			t.own[s.pair.kind()]--
			s.end()
		}
	}
	t.byName.Store(&next)
}

// A routePair is a route and a backend. The backend is empty for calls that culvert refused
// before they had one.
type routePair struct{ route, backend string }

// A routeTable finds the series of routes without a lock and without an allocation. The
// first pairs that have calls get their own.
type routeTable struct {
	byName atomic.Pointer[routeSlots] // replaced as a whole
	others [2]routeSlot               // by kind

	mu  sync.Mutex
	own [2]int // series of their own by kind, each up to bridge.MaxRoutes
}

// all returns the slots of all configured routes, or nil before the first SetRoutes.
func (t *routeTable) all() routeSlots {
	if all := t.byName.Load(); all != nil {
		return *all
	}
	return nil
}

// routeSlots are those of all configured routes, by name. There may be thousands, so they
// are small.
type routeSlots map[string]*routeBackends

// A routeSlot has the series of a pair once it has had a call.
type routeSlot = atomic.Pointer[routeSeries]

// routeBackends are the slots of one route.
type routeBackends struct {
	refused  routeSlot // of calls without a backend
	backends []backendSlot
}

type backendSlot struct {
	name string
	routeSlot
}

// newRouteSlots allocates few objects, whatever the number of routes: the garbage collector
// looks at them again and again.
func newRouteSlots(routes []Route) routeSlots {
	pairs := 0
	for _, r := range routes {
		pairs += len(r.Backends)
	}
	all, of, slots := make(routeSlots, len(routes)), make([]routeBackends, len(routes)), make([]backendSlot, pairs)
	for i, r := range routes {
		n := len(r.Backends)
		of[i].backends, slots = slots[:n:n], slots[n:]
		for b, name := range r.Backends {
			of[i].backends[b].name = name
		}
		all[r.Name] = &of[i]
	}
	return all
}

// find returns the slot of a pair, or nil if it isn't configured.
func (all routeSlots) find(pair routePair) *routeSlot {
	r := all[pair.route]
	if r == nil {
		return nil
	}
	if pair.backend == "" {
		return &r.refused
	}
	for i := range r.backends {
		if r.backends[i].name == pair.backend {
			return &r.backends[i].routeSlot
		}
	}
	return nil
}

func (r *routeBackends) slots(name string) iter.Seq2[routePair, *routeSlot] {
	return func(yield func(routePair, *routeSlot) bool) {
		if !yield(routePair{route: name}, &r.refused) {
			return
		}
		for i := range r.backends {
			if b := &r.backends[i]; !yield(routePair{name, b.name}, &b.routeSlot) {
				return
			}
		}
	}
}

// A routeSeries has the time series of a route and a backend.
type routeSeries struct {
	m               *Metrics
	pair            routePair
	other           bool
	duration, first prometheus.Observer // nil without a backend
	ends            [len(origins)][statuses]atomic.Pointer[prometheus.Counter]
	gone            atomic.Bool // written under routeTable.mu
}

// origins are those of statuses.
var origins = [...]string{report.OriginUpstream, report.OriginCulvert, report.OriginClient}

// kind returns 1 for the refused calls of a route. Any client can cause those, so they take
// no place of another kind.
func (p routePair) kind() int {
	if p.backend == "" {
		return 1
	}
	return 0
}

func (m *Metrics) route(c *report.CallInfo) *routeSeries {
	pair := routePair{c.Route, c.Backend}
	if s := m.routes.slot(pair).Load(); s != nil {
		return s
	}
	m.routes.mu.Lock()
	defer m.routes.mu.Unlock()
	return m.newRoute(pair)
}

func (t *routeTable) slot(pair routePair) *routeSlot {
	if slot := t.all().find(pair); slot != nil {
		return slot
	}
	return &t.others[pair.kind()]
}

// newRoute returns the series of a pair, and makes it if there is none yet. The caller holds
// routeTable.mu.
func (m *Metrics) newRoute(pair routePair) *routeSeries {
	t := &m.routes
	slot, kind := t.slot(pair), pair.kind() // SetRoutes may have replaced the slot
	s := slot.Load()
	switch {
	case s != nil:
		return s
	case slot == &t.others[kind] || t.own[kind] >= bridge.MaxRoutes:
		s = m.otherRoutes(kind)
	default:
		t.own[kind]++
		s = m.newRouteSeries(pair, false)
	}
	slot.Store(s)
	return s
}

// otherRoutes returns the series of all pairs of a kind without their own. The caller holds
// routeTable.mu.
func (m *Metrics) otherRoutes(kind int) *routeSeries {
	s := m.routes.others[kind].Load()
	if s == nil {
		s = m.newRouteSeries([...]routePair{{other, other}, {other, ""}}[kind], true)
		m.routes.others[kind].Store(s)
	}
	return s
}

func (m *Metrics) newRouteSeries(pair routePair, others bool) *routeSeries {
	s := &routeSeries{m: m, pair: pair, other: others}
	if pair.backend != "" {
		s.duration = m.routeDurations.WithLabelValues(pair.route, pair.backend)
		s.first = m.routeFirsts.WithLabelValues(pair.route, pair.backend)
	}
	return s
}

// end removes the series. Calls that still have it count as other. The caller holds
// routeTable.mu.
func (s *routeSeries) end() {
	s.gone.Store(true)
	labels := prometheus.Labels{"route": s.pair.route, "backend": s.pair.backend}
	s.m.routeDurations.Delete(labels)
	s.m.routeFirsts.Delete(labels)
	s.m.routeCalls.DeletePartialMatch(labels)
}

// routeEnded counts the end of a call. s has its series, or is nil.
func (m *Metrics) routeEnded(s *routeSeries, i *report.CallInfo, took float64) {
	if i.Own {
		return // no backend of the configuration
	}
	if s == nil || s.gone.Load() {
		s = m.route(i)
	}
	if i.Backend != "" {
		s.duration.Observe(took)
	}
	s.ended(i).Inc()
}

// ended returns the counter of calls that end like this one.
func (s *routeSeries) ended(i *report.CallInfo) prometheus.Counter {
	origin := 0
	for origin < len(origins)-1 && origins[origin] != i.Origin {
		origin++
	}
	at := &s.ends[origin][statusIndex(i.Code)]
	if n := at.Load(); n != nil {
		return *n
	}
	t := &s.m.routes
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.gone.Load() { // meanwhile
		s = s.m.otherRoutes(s.pair.kind())
	}
	n := s.m.routeCalls.WithLabelValues(s.pair.route, s.pair.backend, statusName(i.Code), origins[origin]) // the same each time
	s.ends[origin][statusIndex(i.Code)].Store(&n)
	return n
}
