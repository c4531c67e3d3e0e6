package bridge

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/routing"
	"github.com/culvert-grpc/culvert/bridge/upstream"
)

// A router finds the upstream of a call.
type router struct {
	policy    methodPolicy
	try       bool // the policy is only tried out
	refusals  *report.Refusals
	upstreams *upstream.Set
	unrouted  string         // the backend of calls that no route selects one for
	maxCalls  map[string]int // at once, by backend; none: no limit
}

// authorize returns why a method that the peer calls isn't exposed, or nil.
func (rt *router) authorize(method, peer string) error {
	if rt.policy.allows(method) {
		return nil
	}
	key, hint := "methods.allow", "to allow it: --allow-method "+method[1:]
	if len(rt.policy.allow) == 0 {
		hint += ". culvert then allows only the methods in that list: add a pattern for each other service, too"
	}
	if rt.policy.deniedBy(method) == "methods.deny" {
		key, hint = "methods.deny", "to allow it: remove the pattern that matches it from methods.deny"
	}
	try := rt.tries(method)
	rt.refusals.Note(report.Refusal{Reason: report.ReasonNoRoute, Key: key, Peer: peer, Detail: method, ReportOnly: try}, hint)
	if try {
		return nil
	}
	return report.Newf(report.ReasonNoRoute, "the method %s is not exposed here", method)
}

// route acquires the upstream of that name for a call of the peer, or returns a fault.
// The call releases it at its end.
func (rt *router) route(backend, method, peer string) (*upstream.Upstream, error) {
	u, err := rt.upstreams.AcquireWithin(backend, rt.maxCalls[backend])
	if err == nil {
		return u, nil
	}
	var f *report.Fault
	if errors.As(err, &f) && f.Limit != "" {
		rt.refusals.Note(report.Refusal{Reason: f.Reason, Key: f.Limit, Peer: peer, Detail: method}, "raise "+f.Limit+" of the backend "+backend)
	}
	return nil, err
}

// tries reports whether a refused method crosses because the policy is only tried out.
// Methods that show a backend's inside don't.
func (rt *router) tries(method string) bool {
	return rt.try && !matchesAny(deniedUnlessAllowed, strings.TrimPrefix(method, "/"))
}

// deniedUnlessAllowed are services that show a backend's inside. They cross only if an
// allow pattern names them.
var deniedUnlessAllowed = []string{
	"grpc.channelz.*/*",
	"grpc.binarylog.*/*",
	"grpc.admin.*/*",
	"envoy.service.status.*/*",
	"envoy.admin.*/*",
}

// DeniedUnlessAllowed returns the patterns of the methods that cross only if
// AllowMethods names them.
func DeniedUnlessAllowed() []string { return append([]string(nil), deniedUnlessAllowed...) }

// A methodPolicy decides which methods cross. A deny pattern always wins. If there are
// allow patterns, one must match.
type methodPolicy struct{ allow, deny []string }

func newMethodPolicy(allow, deny []string) (methodPolicy, error) {
	allow, err := methodPatterns(allow)
	if err != nil {
		return methodPolicy{}, err
	}
	deny, err = methodPatterns(deny)
	return methodPolicy{allow, deny}, err
}

// methodPatterns returns patterns in the form that is matched with a method's name.
func methodPatterns(patterns []string) ([]string, error) {
	patterns = slices.Clone(patterns)
	for i, p := range patterns {
		patterns[i] = strings.TrimPrefix(p, "/")
		if _, err := path.Match(patterns[i], ""); err != nil || strings.Count(patterns[i], "/") != 1 {
			return nil, fmt.Errorf("method pattern %q: want \"package.Service/Method\" with * for any part", p)
		}
	}
	return patterns, nil
}

func (p methodPolicy) allows(method string) bool {
	name := strings.TrimPrefix(method, "/")
	switch {
	case matchesAny(p.deny, name):
		return false
	case matchesAny(p.allow, name):
		return true
	default:
		return len(p.allow) == 0 && !matchesAny(deniedUnlessAllowed, name)
	}
}

// deniedBy returns the key that excludes a method that isn't allowed.
func (p methodPolicy) deniedBy(method string) string {
	if matchesAny(p.deny, strings.TrimPrefix(method, "/")) {
		return "methods.deny"
	}
	return "methods.allow"
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}

// parseMethod returns the method of a request's path exactly as it was sent, so that
// routing, policy, log and upstream see the same bytes. For a method's path,
// URL.EscapedPath returns those bytes, without what an http.StripPrefix removed.
// parseMethod refuses everything that another component could read differently.
func parseMethod(target, prefix string) (string, bool) {
	method, _, _ := strings.Cut(target, "?")
	method, ok := strings.CutPrefix(method, prefix)
	if !ok || len(method) < 4 || len(method) > maxMethodBytes || method[0] != '/' {
		return "", false
	}
	service, name, ok := strings.Cut(method[1:], "/")
	if !ok || !routing.PlainElement(service) || !routing.PlainElement(name) {
		return "", false
	}
	return method, true
}

const maxMethodBytes = 1024

// matchesService reports whether a pattern could match some method of the service.
func matchesService(patterns []string, service string) bool {
	for _, p := range patterns {
		head, _, _ := strings.Cut(p, "/")
		if ok, err := path.Match(head, service); err == nil && ok {
			return true
		}
	}
	return false
}
