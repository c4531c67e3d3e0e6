package bridge

import (
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A router finds the upstream of a call.
type router struct {
	policy    routing.MethodPolicy
	try       bool // the policy is only tried out
	refusals  *report.Refusals
	upstreams *upstream.Set
	unrouted  string         // the backend of calls that no route selects one for
	maxCalls  map[string]int // at once, by backend; none: no limit
}

// authorize returns why a method that the peer calls isn't exposed, or nil.
func (rt *router) authorize(method, peer string) error {
	key := rt.policy.DeniedBy(method)
	if key == "" {
		return nil
	}
	hint := "to allow it: " + report.ToSet(report.KeyMethodsAllow, method[1:])
	switch {
	case key == report.KeyMethodsDeny:
		hint = "to allow it: remove the pattern that matches it from " + report.Named(report.KeyMethodsDeny)
	case !rt.policy.AllowsByName():
		hint += ". culvert then allows only the methods in that list: add a pattern for each other service, too"
	}
	f := &report.Fault{Reason: report.ReasonNoRoute, Key: key, Detail: method, Text: "the method " + method + " is not exposed here", Hint: hint}
	return rt.refusals.Unless(rt.tries(method), f, peer)
}

// acquire acquires the upstream of that name for a call, or returns a fault. The call
// releases it at its end.
func (rt *router) acquire(backend string) (*upstream.Upstream, error) {
	return rt.upstreams.Acquire(backend, rt.maxCalls[backend])
}

// takes reports whether acquire can succeed, and the backend serves.
func (rt *router) takes(backend string) bool {
	return rt.upstreams.Takes(backend, rt.maxCalls[backend])
}

// tries reports whether a refused method crosses because the policy is only tried out.
// Methods that show a backend's inside don't.
func (rt *router) tries(method string) bool {
	return rt.try && !routing.ShowsInside(method)
}
