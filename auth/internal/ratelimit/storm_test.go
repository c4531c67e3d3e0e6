package ratelimit

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestStorm: calls come, wait and leave at random, of a service that answers, fails and hangs
// at random. Each is counted once.
func TestStorm(t *testing.T) {
	const callers, calls = 40, 25
	at := func(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		switch rand.N(5) {
		case 0:
			return says(over)(ctx, q)
		case 1:
			return nil, status.Error(codes.Internal, "odd")
		case 2:
			return hang(ctx, q)
		default:
			return says(ok)(ctx, q)
		}
	}
	for _, closes := range []bool{false, true} {
		o := patient()
		o.Timeout, o.Concurrent, o.FailClosed = 20*time.Millisecond, 8, closes
		l := realLimiter(t, o, at)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range calls {
					ctx, cancel := context.WithTimeout(t.Context(), rand.N(30*time.Millisecond))
					f := aCall()
					if rand.N(10) == 0 {
						f = Facts{}
					}
					_, _ = l.Check(ctx, f) // any of its results
					cancel()
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		s := l.Snapshot()
		if sum := s.Allowed + s.Denied + s.Failed + s.Open + s.Cancelled + s.Unasked; sum != callers*calls {
			t.Errorf("%d calls are counted as %+v", callers*calls, s)
		}
		if closes && s.Open > 0 || !closes && s.Failed > 0 {
			t.Errorf("closed is %v: %+v", closes, s)
		}
		if s.Asked != callers*calls-s.Unasked {
			t.Errorf("%d calls are counted as %+v", callers*calls, s)
		}
	}
}
