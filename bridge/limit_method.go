package bridge

import (
	"maps"
	"slices"

	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
)

// methodLimits are the limits of Config.MethodLimits, in their order.
type methodLimits []methodLimit

// A methodLimit is a MethodQuota and the usage of its methods.
type methodLimit struct {
	patterns     routing.MethodPatterns
	scope        *quota.Scope
	messageBytes int
	headerBytes  int
}

// methodCounts has the counts of methods, by pattern. It outlives the limits: if a
// pattern is removed and put back, the calls that still run count again.
type methodCounts map[string]*quota.Scope

// limits returns the limits of a new policy, which share the counts of the policies
// before. It forgets idle counts whose pattern neither the new policy nor the one
// before names. A request that took the policy before may not count yet.
func (c methodCounts) limits(quotas []MethodQuota, q *quota.Limiter, before methodLimits) (methodLimits, error) {
	limits := make(methodLimits, 0, len(quotas))
	for _, m := range quotas {
		patterns, err := routing.NewMethodPatterns([]string{m.Pattern})
		if err != nil {
			return nil, err
		}
		counted := c[patterns[0]]
		if counted == nil {
			counted = quota.NewMethodScope(Quota{})
			c[patterns[0]] = counted
		}
		bounds := Quota{Calls: m.Calls, CallsPerSecond: m.CallsPerSecond, DecompressedPerSecond: m.DecompressedPerSecond}
		limits = append(limits, methodLimit{patterns, counted.With(bounds), m.MessageBytes, m.HeaderBytes})
	}
	maps.DeleteFunc(c, func(pattern string, counted *quota.Scope) bool {
		return !limits.has(pattern) && !before.has(pattern) && q.Idle(counted)
	})
	return limits, nil
}

// has reports whether one of the limits is for the pattern.
func (l methodLimits) has(pattern string) bool {
	return slices.ContainsFunc(l, func(m methodLimit) bool { return m.patterns[0] == pattern })
}

// scopeOf returns the scope of a limit that may be nil.
func (m *methodLimit) scopeOf() *quota.Scope {
	if m == nil {
		return nil
	}
	return m.scope
}

// match returns the first limit whose pattern matches the method, or nil.
func (l methodLimits) match(method string) *methodLimit {
	for i := range l {
		if l[i].patterns.Match(method) {
			return &l[i]
		}
	}
	return nil
}
