package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A Severity says how bad a finding is.
type Severity int

// The severities.
const (
	Note    Severity = iota // nothing is wrong
	Warning                 // it works, but not as somebody may expect
	Error                   // something doesn't work
)

func (s Severity) String() string { return [...]string{"note", "warning", "error"}[s] }

// MarshalText returns the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Finding is what a check found.
type Finding struct {
	Severity Severity `json:"severity"`
	Object   string   `json:"object"` // "Deployment shop/orders"
	Problem  string   `json:"problem"`
	Remedy   string   `json:"remedy,omitempty"`
	Manifest string   `json:"manifest,omitempty"` // in YAML: what the remedy applies
}

// A Report is the result of [Run].
type Report struct {
	Findings []Finding `json:"findings"` // by object; that with the worst first
	Summary  Summary   `json:"summary"`
}

// A Summary counts workloads. A pod without a workload counts as one.
type Summary struct {
	Workloads int `json:"workloads"` // all that were looked at
	Injected  int `json:"injected"`  // those whose pods all have culvert
	Waiting   int `json:"waiting"`   // those that get culvert when their pods are made again
	Refused   int `json:"refused"`   // those that ask for culvert and can't have it
	Errors    int `json:"errors"`
	Warnings  int `json:"warnings"`
	Notes     int `json:"notes"`
}

func (s Summary) String() string {
	return fmt.Sprintf("%s: injected %d, waiting for new pods %d, refused %d. %s, %s, %s.",
		count(s.Workloads, "workload"), s.Injected, s.Waiting, s.Refused,
		count(s.Errors, "error"), count(s.Warnings, "warning"), count(s.Notes, "note"))
}

// MarshalJSON writes no null for an empty report.
func (r *Report) MarshalJSON() ([]byte, error) {
	type plain Report
	p := plain(*r)
	if p.Findings == nil {
		p.Findings = []Finding{}
	}
	return json.Marshal(p)
}

func (r *Report) add(s Severity, object, problem, remedy string) *Finding {
	r.Findings = append(r.Findings, Finding{Severity: s, Object: object, Problem: problem, Remedy: remedy})
	return &r.Findings[len(r.Findings)-1]
}

// finish sorts and counts the findings.
func (r *Report) finish() {
	worst := map[string]Severity{}
	for _, f := range r.Findings {
		worst[f.Object] = max(worst[f.Object], f.Severity)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(worst[b.Object], worst[a.Object]), cmp.Compare(a.Object, b.Object), cmp.Compare(b.Severity, a.Severity))
	})
	for _, f := range r.Findings {
		switch f.Severity {
		case Error:
			r.Summary.Errors++
		case Warning:
			r.Summary.Warnings++
		case Note:
			r.Summary.Notes++
		}
	}
}

// count writes "1 pod", "2 pods".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
