package routing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// MethodPatterns are patterns like "package.Service/Method" with * for any part.
type MethodPatterns []string

// NewMethodPatterns checks a list of patterns, which it doesn't keep.
func NewMethodPatterns(list []string) (MethodPatterns, error) {
	patterns := slices.Clone(list)
	for i, p := range patterns {
		patterns[i] = strings.TrimPrefix(p, "/")
		if _, _, ok := rules.CutPattern(p); !ok {
			return nil, fmt.Errorf("method pattern %q: want \"package.Service/Method\" with * for any part", p)
		}
	}
	return patterns, nil
}

// Match reports whether a pattern matches the method "/package.Service/Method".
func (ps MethodPatterns) Match(method string) bool {
	name := strings.TrimPrefix(method, "/")
	return slices.ContainsFunc(ps, func(p string) bool { return beginsAlike(p, name) && matchesText(p, name) })
}

// beginsAlike reports whether a name begins with the part of a pattern before its first
// special character. Each call asks for several patterns, and few match.
func beginsAlike(pattern, name string) bool {
	for i := range len(pattern) {
		if strings.IndexByte(`*?[\`, pattern[i]) >= 0 {
			return true
		}
		if i == len(name) || name[i] != pattern[i] {
			return false
		}
	}
	return true
}

// matchService reports whether a pattern could match some method of the service.
func (ps MethodPatterns) matchService(service string) bool {
	return slices.ContainsFunc(ps, func(p string) bool {
		head, _, _ := strings.Cut(p, "/")
		return matchesText(head, service)
	})
}

// A MethodPolicy decides which methods cross. A deny pattern always wins. If there are
// allow patterns, one must match.
type MethodPolicy struct{ allow, deny MethodPatterns }

// NewMethodPolicy checks the patterns of a policy, and doesn't keep the lists.
func NewMethodPolicy(allow, deny []string) (MethodPolicy, error) {
	allowed, err := NewMethodPatterns(allow)
	if err != nil {
		return MethodPolicy{}, err
	}
	denied, err := NewMethodPatterns(deny)
	return MethodPolicy{allowed, denied}, err
}

// Allows reports whether calls of the method cross.
func (p MethodPolicy) Allows(method string) bool { return p.DeniedBy(method) == "" }

// AllowsByName reports whether there are allow patterns: all other methods are denied.
func (p MethodPolicy) AllowsByName() bool { return len(p.allow) > 0 }

// DeniedBy returns the key that excludes the method, or "" if the method is allowed.
func (p MethodPolicy) DeniedBy(method string) string {
	switch {
	case p.deny.Match(method):
		return report.KeyMethodsDeny
	case p.allow.Match(method), !p.AllowsByName() && !ShowsInside(method):
		return ""
	default:
		return report.KeyMethodsAllow
	}
}

// Exposes reports whether clients can call some method of the service.
func (p MethodPolicy) Exposes(service string) bool {
	return p.Allows("/"+service+"/*") || p.allow.matchService(service) && !p.deny.Match(service+"/*")
}

// LeavesOut reports whether the service is left out on purpose: a deny pattern names it,
// or a gRPC server offers it beside its own.
func (p MethodPolicy) LeavesOut(service string) bool {
	return p.deny.matchService(service) || deniedUnlessAllowed.matchService(service) || ofServers.matchService(service)
}

// ofServers are services that a gRPC server offers beside its own.
var ofServers = MethodPatterns{"grpc.health.*/*", "grpc.reflection.*/*"}

// deniedUnlessAllowed are services that show a backend's inside. They cross only if an
// allow pattern names them.
var deniedUnlessAllowed = MethodPatterns{
	"grpc.channelz.*/*",
	"grpc.binarylog.*/*",
	"grpc.admin.*/*",
	"envoy.service.status.*/*",
	"envoy.admin.*/*",
}

// DeniedUnlessAllowed returns the patterns of the methods that cross only if an allow
// pattern names them.
func DeniedUnlessAllowed() []string { return slices.Clone(deniedUnlessAllowed) }

// ShowsInside reports whether a method is one of DeniedUnlessAllowed.
func ShowsInside(method string) bool { return deniedUnlessAllowed.Match(method) }
