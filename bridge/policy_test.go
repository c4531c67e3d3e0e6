package bridge

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestPolicyCostsNoAllocation: a decision, and what a call counts with, allocate
// nothing, also with rules that Apply has changed.
func TestPolicyCostsNoAllocation(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	apply(t, s, Config{Backend: nowhere, TrustedProxies: prefixes(t, "192.0.2.0/24"), MethodLimits: []MethodQuota{
		{Pattern: "other.Service/*", Calls: 1},
		{Pattern: "test.Service/*", Calls: 1, MessageBytes: 1 << 10},
	}})
	a := &arrival{facts: facts{path: testMethod}}
	a.facts.caller = &a.caller
	a.peer.Addr = "192.0.2.1:50000"
	own := s.edge.Own()
	allocations := testing.AllocsPerRun(100, func() {
		p := s.policy.Load()
		a.policy, a.listening = p, p.listening(own)
		a.decision = p.decide(&a.facts)
		_ = a.use(&a.decision)
		if a.listening == own || a.messages.Key != report.KeyMethodMessageBytes {
			t.Fatalf("the request isn't judged by what was applied: %v", a.messages)
		}
	})
	if allocations != 0 {
		t.Errorf("a request that takes its policy allocates %v times", allocations)
	}
}
