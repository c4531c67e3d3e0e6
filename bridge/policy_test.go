package bridge

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestPolicyCostsNoAllocation: what a request asks of its policy allocates nothing,
// with rules that Apply has changed: those of its listener, its sizes and what its call
// counts with.
func TestPolicyCostsNoAllocation(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	apply(t, s, Config{Backend: nowhere, TrustedProxies: prefixes(t, "192.0.2.0/24"), MethodLimits: []MethodQuota{
		{Pattern: "other.Service/*", Calls: 1},
		{Pattern: "test.Service/*", Calls: 1, MessageBytes: 1 << 10},
	}})
	a := &arrival{method: testMethod}
	a.peer.Addr = "192.0.2.1:50000"
	own := s.edge.Own()
	allocations := testing.AllocsPerRun(100, func() {
		p := s.policy.Load()
		a.policy, a.listening = p, p.listening(own)
		_, m := a.use()
		if messages, _ := p.sizes(a.listening, m); a.listening == own || messages.Key != report.KeyMethodMessageBytes {
			t.Fatalf("the request isn't judged by what was applied: %v", messages)
		}
	})
	if allocations != 0 {
		t.Errorf("a request that takes its policy allocates %v times", allocations)
	}
}
