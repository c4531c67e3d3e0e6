package recent

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A window has the ends of the last minute, in slots of slotTime.
const (
	slots    = 12
	slotTime = 5 // seconds
)

// maxRoutes bounds the pairs of route and backend that are counted apart.
const maxRoutes = 1000

type routeKey struct{ route, backend string }

// A routeCount is how the calls of a route to a backend ended.
type routeCount struct {
	own                      bool // of calls that culvert answers itself, whatever the configuration
	calls, errors, cancelled int64
	recent                   [slots]slot
}

// A slot is the part of a window from at to at+slotTime, in seconds of Unix time.
type slot struct {
	at            int64
	calls, errors int64
	took          time.Duration
}

// routes are the counts of all routes.
type routes struct {
	by    map[routeKey]*routeCount
	left  int64
	known map[string][]string // the backends of each configured route; nil: nobody has said
}

// knows reports whether the configuration has the pair, or needn't have it.
func (rs *routes) knows(key routeKey, own bool) bool {
	backends, configured := rs.known[key.route]
	return own || rs.known == nil || configured && (key.backend == "" || slices.Contains(backends, key.backend))
}

func (rs *routes) ended(c *report.CallInfo) {
	key := routeKey{c.Route, c.Backend}
	n := rs.by[key]
	if n == nil {
		if len(rs.by) >= maxRoutes || !rs.knows(key, c.Own) { // a call may outlive its route
			rs.left++
			return
		}
		n = &routeCount{own: c.Own}
		rs.by[key] = n
	}
	at := c.Begin.Add(c.Duration).Unix() / slotTime
	s := &n.recent[at%slots]
	if s.at != at {
		*s = slot{at: at}
	}
	n.calls++
	s.calls++
	s.took += c.Duration
	switch {
	case c.Code == codes.OK:
	case c.Origin == report.OriginClient:
		n.cancelled++
	default:
		n.errors++
		s.errors++
	}
}

// list returns the counts, with the most calls first, and the seconds that they cover. Counting
// began at since.
func (rs *routes) list(now, since time.Time) (all []admin.Route, window float64) {
	at := now.Unix() / slotTime
	first := at - slots + 1
	window = now.Sub(time.Unix(first*slotTime, 0)).Seconds()
	window = max(min(window, now.Sub(since).Truncate(time.Millisecond).Seconds()), 1)
	all = make([]admin.Route, 0, len(rs.by))
	for key, n := range rs.by {
		r := admin.Route{Route: admin.Text(key.route), Backend: admin.Text(key.backend), Calls: n.calls, Errors: n.errors, Cancelled: n.cancelled}
		var sum slot
		for _, s := range n.recent {
			if first <= s.at && s.at <= at {
				sum.calls, sum.errors, sum.took = sum.calls+s.calls, sum.errors+s.errors, sum.took+s.took
			}
		}
		r.CallsPerSecond, r.ErrorsPerSecond = float64(sum.calls)/window, float64(sum.errors)/window
		if sum.calls > 0 {
			r.MeanSeconds = (sum.took / time.Duration(sum.calls)).Seconds()
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b admin.Route) int {
		return cmp.Or(cmp.Compare(b.CallsPerSecond, a.CallsPerSecond), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Backend, b.Backend))
	})
	return all, window
}
