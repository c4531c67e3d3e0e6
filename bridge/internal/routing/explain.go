package routing

import (
	"cmp"
	"slices"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Explain returns all routes for a request: the winner, then the others that match,
// from the most to the least specific, then the rest, those first that failed at the
// latest criterion. It looks at every route.
func (t *Table) Explain(f *Facts) []report.Candidate {
	type result struct {
		rank   int // of its entry
		failed int // the place of the criterion; len(criteria): none
	}
	results := make([]*result, t.routes)
	for rank := range t.entries { // the first that matches is the best of its route
		e := &t.entries[rank]
		failed := e.failed(f)
		if r := results[e.route]; r == nil || failed > r.failed {
			results[e.route] = &result{rank, failed}
		}
	}
	slices.SortFunc(results, func(a, b *result) int {
		return cmp.Or(cmp.Compare(b.failed, a.failed), cmp.Compare(a.rank, b.rank))
	})
	candidates := make([]report.Candidate, len(results))
	for i, r := range results {
		e := &t.entries[r.rank]
		c := report.Candidate{Route: int(e.route), Matches: r.failed == len(criteria)}
		switch {
		case !c.Matches:
			c.Key = criteria[r.failed].key
		case i > 0:
			_, c.Key = decide(&t.entries[results[0].rank], e)
		}
		candidates[i] = c
	}
	return candidates
}

// failed returns the place in criteria of the first condition that fails, or
// len(criteria).
func (e *entry) failed(f *Facts) int {
	for i := range criteria {
		if !criteria[i].matches(e, f) {
			return i
		}
	}
	return len(criteria)
}

// Shadowed returns the routes that no request gets, because other routes match all of
// their requests and win, or because no listener of theirs accepts their transports.
// ways are all that there are. Shadowed judges each route by requests that match it and
// as few others as possible.
func (t *Table) Shadowed(ways []report.Way) []report.Shadow {
	by := slices.Repeat([]int{-1}, t.routes)
	gets := make([]bool, t.routes)
	for i := range t.entries {
		e := &t.entries[i]
		if gets[e.route] {
			continue
		}
		e.samples(ways, func(f *Facts) bool {
			if rank := t.find(f); rank != none {
				if winner := &t.entries[rank]; winner.route != e.route && !e.method.mayHave("[") && !winner.method.mayHave("[?") {
					by[e.route] = int(winner.route)
					return true
				}
			}
			gets[e.route] = true // or the sample says nothing
			return false
		})
	}
	var shadows []report.Shadow
	for i := range t.routes {
		if !gets[i] {
			shadows = append(shadows, report.Shadow{Route: i, By: by[i]})
		}
	}
	return shadows
}

// samples yields a request that the entry matches for each of the ways.
func (e *entry) samples(ways []report.Way, yield func(*Facts) bool) {
	f := &Facts{Host: e.host, Path: e.samplePath(), Metadata: make(map[string][]string, len(e.metadata))}
	switch e.hostKind() {
	case wildcardHost:
		f.Host = unlike + "." + e.host
	case anyHost:
		f.Host = unlike
	}
	for _, c := range e.metadata {
		f.Metadata[c.Name] = []string{cmp.Or(c.Value, unlike)}
	}
	for _, w := range ways {
		f.Listener, f.Transport = w.Listener, w.Transport
		if e.matchesListener(f) && e.matchesTransport(f) && !yield(f) {
			return
		}
	}
}
