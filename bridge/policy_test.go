package bridge

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPolicyCostsNoAllocation: a call that takes its policy allocates no more than one
// that is given it. The call is refused by its method, so that no other goroutine
// allocates for it.
func TestPolicyCostsNoAllocation(t *testing.T) {
	const calls = 600 // so many that the noise of pools under the race detector is far below one for each
	s := newServer(t, Config{Backend: nowhere})
	apply(t, s, Config{Backend: nowhere, DenyMethods: []string{"*/*"}})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
	r.Header.Set("Content-Type", "application/grpc-web")
	allocations := func(serve func(w http.ResponseWriter)) float64 {
		least := 0.0
		for i := range 2 { // what goes on beside the test can only add some
			n := testing.AllocsPerRun(1, func() {
				for range calls {
					w := httptest.NewRecorder()
					serve(w)
					if !strings.Contains(w.Body.String(), "not exposed") {
						t.Fatalf("the call is answered %q", w.Body)
					}
				}
			})
			if i == 0 || n < least {
				least = n
			}
		}
		return least
	}
	p := s.policy.Load()
	given := allocations(func(w http.ResponseWriter) {
		s.edge.Of(r).BeginRequest(w, r)
		s.serveBy(p, w, r)
	})
	taken := allocations(func(w http.ResponseWriter) { s.ServeHTTP(w, r) })
	if taken > given+calls/2 {
		t.Errorf("%d calls allocate %v times, and %v times where they are given their policy", calls, taken, given)
	}
}
