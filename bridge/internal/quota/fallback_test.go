package quota

import (
	"errors"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestWebRequestsCountApart: requests to the web server have limits of an address and
// of all, and take no place of a call.
func TestWebRequestsCountApart(t *testing.T) {
	q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{WebRequests: 3, Calls: 1}, address: report.Quota{WebRequests: 2}})
	listener := NewListenerScope(report.Quota{})
	begin := func(peer, limit string) *FallbackRequest {
		t.Helper()
		u := q.FallbackRequest(listener, peer, nil)
		err := u.Begin("GET /")
		var f *report.Fault
		switch {
		case limit == "" && err != nil:
			t.Fatalf("%s: %v", peer, err)
		case limit != "" && (!errors.As(err, &f) || f.Key != limit || f.Reason != report.ReasonLimitExceeded):
			t.Fatalf("%s: got %v, want a refusal by %s", peer, err, limit)
		}
		return &u
	}
	first, second := begin("192.0.2.1", ""), begin("192.0.2.1", "")
	begin("192.0.2.1", "limits.address.fallback_requests").End()
	third := begin("192.0.2.2", "")
	begin("192.0.2.3", "limits.fallback_requests").End()
	if c, err := q.start(listener, "192.0.2.1", limitedMethod); err != nil {
		t.Errorf("a call beside them: %v", err)
	} else {
		c.End()
	}
	first.End()
	begin("192.0.2.3", "").End()
	second.End()
	third.End()
	for range 2 {
		defer begin("192.0.2.1", "").End()
	}
	if n := q.server.tally.fallbackRequests.Load(); n != 2 {
		t.Errorf("%d requests count, want 2", n)
	}
}
