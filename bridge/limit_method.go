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

// newMethodLimits returns the limits. Those whose pattern is in before keep its
// counts.
func newMethodLimits(quotas []MethodQuota, before methodLimits) (methodLimits, error) {
	limits := make(methodLimits, 0, len(quotas))
	for _, q := range quotas {
		patterns, err := methodPatterns([]string{q.Pattern})
		if err != nil {
			return nil, err
		}
		bounds := Quota{Calls: q.Calls, CallsPerSecond: q.CallsPerSecond, DecompressedPerSecond: q.DecompressedPerSecond}
		scope := quota.NewMethodScope(bounds)
		if i := slices.IndexFunc(before, func(m methodLimit) bool { return slices.Equal(m.patterns, patterns) }); i >= 0 {
			scope = before[i].scope.With(bounds)
		}
		limits = append(limits, methodLimit{patterns, scope, q.MessageBytes, q.HeaderBytes})
	}
	return limits, nil
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
