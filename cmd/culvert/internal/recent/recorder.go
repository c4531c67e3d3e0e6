package recent

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge/report"
)

const (
	kept    = 200 // failures of each origin, and refusals
	maxKeys = 500 // ways to fail, and limits, that are counted apart
)

// A Recorder keeps ends of calls and refusals. Its methods may be called concurrently, and
// return quickly.
type Recorder struct {
	began time.Time

	routing sync.Mutex // apart: each call takes it
	routes  routes

	mu       sync.Mutex
	failures map[string]*ring[admin.Failure] // by origin
	failed   map[failureKey]int64
	refusals ring[admin.Refusal]
	refused  map[limitKey]*admin.LimitCount
}

type failureKey struct {
	origin string
	reason report.Reason
	code   string
}

type limitKey struct {
	key    string
	reason report.Reason
}

// NewRecorder returns a Recorder that has seen nothing since now.
func NewRecorder(now time.Time) *Recorder {
	r := &Recorder{began: now, routes: routes{by: make(map[routeKey]*routeCount)}, failures: make(map[string]*ring[admin.Failure]), failed: make(map[failureKey]int64), refusals: ring[admin.Refusal]{most: kept}, refused: make(map[limitKey]*admin.LimitCount)}
	for _, origin := range []string{report.OriginUpstream, report.OriginCulvert, report.OriginClient} {
		r.failures[origin] = &ring[admin.Failure]{most: kept}
	}
	return r
}

// CallEnded is told of the end of a call.
func (r *Recorder) CallEnded(c *report.CallInfo) {
	r.routing.Lock()
	r.routes.ended(c)
	r.routing.Unlock()
	if c.Code == codes.OK {
		return
	}
	r.fail(c.Origin, c.Reason, &admin.Failure{
		At: c.Begin.Add(c.Duration).UTC(), ID: keep(c.ID), Method: keep(c.Method), Route: keep(c.Route), Backend: keep(c.Backend), Transport: admin.Text(c.Transport), Listener: admin.Text(c.Listener),
		Peer: keep(c.Peer), Client: keep(c.Client), Identity: keep(c.Identity), Origin: c.Origin, Reason: admin.Text(c.Reason), Limit: keep(c.Limit),
		Code: admin.Text(code.Code(c.Code).String()), Message: keep(c.Status.Message()),
		Cause: keep(c.Cause), DurationSeconds: c.Duration.Seconds(),
	})
}

// WebEnded is told of the end of a request to the web server, which failed if culvert says
// why.
func (r *Recorder) WebEnded(w *report.WebInfo) {
	if w.Reason == "" {
		return
	}
	r.fail(w.Origin, w.Reason, &admin.Failure{
		At: w.Begin.Add(w.Duration).UTC(), ID: keep(w.ID), Method: keep(w.Request), Transport: "web", Listener: admin.Text(w.Listener), Peer: keep(w.Peer), Client: keep(w.Client),
		Origin: w.Origin, Reason: admin.Text(w.Reason), Limit: keep(w.Limit), Code: admin.Text(strconv.Itoa(w.Status)), Cause: keep(w.Cause), DurationSeconds: w.Duration.Seconds(),
	})
}

func (r *Recorder) fail(origin string, why report.Reason, f *admin.Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := failureKey{origin, why, string(f.Code)}
	if n, known := r.failed[key]; known || len(r.failed) < maxKeys {
		r.failed[key] = n + 1
	}
	if of := r.failures[origin]; of != nil {
		of.add(*f)
	}
}

// Refused is told of a refusal by a rule or a limit.
func (r *Recorder) Refused(x report.Refusal) {
	now := time.Now().UTC()
	r.mu.Lock()
	defer r.mu.Unlock()
	key := limitKey{x.Key, x.Reason}
	n := r.refused[key]
	if n == nil && len(r.refused) < maxKeys {
		n = &admin.LimitCount{Key: keep(x.Key), Reason: admin.Text(x.Reason)}
		r.refused[limitKey{string(n.Key), x.Reason}] = n
	}
	if n != nil {
		n.Last = now
		if x.ReportOnly {
			n.ReportOnly++
		} else {
			n.Refused++
		}
	}
	r.refusals.add(admin.Refusal{At: now, Key: keep(x.Key), Reason: admin.Text(x.Reason), Peer: keep(x.Peer), Detail: keep(x.Detail), ReportOnly: x.ReportOnly})
}

// keep returns a text in the length that is shown. It keeps nothing else alive.
func keep(text string) admin.Text { return admin.Text(strings.Clone(admin.Bounded(text))) }

// Failures returns the last failures that the query selects.
func (r *Recorder) Failures(q admin.FailureQuery) admin.Failures {
	all := admin.Failures{At: time.Now().UTC(), Counts: []admin.FailureCount{}, Failures: []admin.Failure{}}
	selects := func(origin, reason string) bool {
		return (q.Origin == "" || q.Origin == origin) && (q.Reason == "" || q.Reason == reason)
	}
	r.mu.Lock()
	for key, n := range r.failed {
		if selects(key.origin, string(key.reason)) {
			all.Counts = append(all.Counts, admin.FailureCount{Origin: key.origin, Reason: admin.Text(key.reason), Code: admin.Text(key.code), Failed: n})
		}
	}
	for _, of := range r.failures {
		of.newest(func(f admin.Failure) {
			if selects(f.Origin, string(f.Reason)) {
				all.Failures = append(all.Failures, f)
			}
		})
	}
	r.mu.Unlock()
	slices.SortFunc(all.Counts, func(a, b admin.FailureCount) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Code, b.Code))
	})
	slices.SortStableFunc(all.Failures, func(a, b admin.Failure) int { return b.At.Compare(a.At) })
	return all
}

// Limits returns what was refused.
func (r *Recorder) Limits() admin.Limits {
	all := admin.Limits{At: time.Now().UTC(), Limits: []admin.LimitCount{}, Last: []admin.Refusal{}}
	r.mu.Lock()
	for _, n := range r.refused {
		all.Limits = append(all.Limits, *n)
	}
	r.refusals.newest(func(x admin.Refusal) { all.Last = append(all.Last, x) })
	r.mu.Unlock()
	slices.SortFunc(all.Limits, func(a, b admin.LimitCount) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// SetRoutes makes these the routes that are counted apart: those of the configuration by name,
// with their backends. It forgets the counts of all others, and keeps the map.
func (r *Recorder) SetRoutes(configured map[string][]string) {
	r.routing.Lock()
	defer r.routing.Unlock()
	r.routes.known = configured
	maps.DeleteFunc(r.routes.by, func(key routeKey, n *routeCount) bool { return !r.routes.knows(key, n.own) })
}

// Routes returns how the calls of each route ended.
func (r *Recorder) Routes() admin.Routes {
	now := time.Now()
	all := admin.Routes{At: now.UTC(), Since: r.began.UTC()}
	r.routing.Lock()
	all.Routes, all.WindowSeconds = r.routes.list(now, r.began)
	all.Left = r.routes.left
	r.routing.Unlock()
	return all
}
