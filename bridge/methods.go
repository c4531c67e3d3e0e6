package bridge

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

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

// leavesOut reports whether the service is left out on purpose: DenyMethods names it,
// or a gRPC server offers it beside its own.
func (p methodPolicy) leavesOut(service string) bool {
	return matchesService(p.deny, service) || matchesService(deniedUnlessAllowed, service) || matchesService(ofServers, service)
}

// ofServers are services that a gRPC server offers beside its own.
var ofServers = []string{"grpc.health.*/*", "grpc.reflection.*/*"}

// exposes reports whether clients can call some method of the service.
func (p methodPolicy) exposes(service string) bool {
	if p.allows("/" + service + "/*") {
		return true
	}
	return matchesService(p.allow, service) && !matchesAny(p.deny, service+"/*")
}
