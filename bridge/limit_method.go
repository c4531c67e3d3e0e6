package bridge

import (
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/quota"
)

// methodLimits are those of Config.MethodLimits, in their order.
type methodLimits []methodLimit

// A methodLimit is a MethodQuota, and what its methods use of it.
type methodLimit struct {
	patterns     []string
	scope        *quota.Scope
	messageBytes int
	headerBytes  int
}

// methodCounts has what is counted of methods, by pattern. It outlives the limits: a
// pattern that is removed and put back finds the calls that still run.
type methodCounts map[string]*quota.Scope

// limits returns the limits of a new policy, which count where those before it did.
// It forgets the counts that are idle if neither the new policy nor the one before
// names their pattern. A request that took the policy before may not count yet.
func (c methodCounts) limits(quotas []MethodQuota, q *quota.Limiter, before methodLimits) (methodLimits, error) {
	limits := make(methodLimits, 0, len(quotas))
	for _, m := range quotas {
		patterns, err := methodPatterns([]string{m.Pattern})
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
	for pattern, counted := range c {
		if q.Idle(counted) && !limits.has(pattern) && !before.has(pattern) {
			delete(c, pattern)
		}
	}
	return limits, nil
}

// has reports whether one of the limits is for the pattern.
func (l methodLimits) has(pattern string) bool {
	return slices.ContainsFunc(l, func(m methodLimit) bool { return m.patterns[0] == pattern })
}

// of returns the first limit whose pattern matches the method, or nil.
func (l methodLimits) of(method string) *methodLimit {
	for i := range l {
		if matchesAny(l[i].patterns, strings.TrimPrefix(method, "/")) {
			return &l[i]
		}
	}
	return nil
}
