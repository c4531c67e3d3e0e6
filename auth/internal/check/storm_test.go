package check

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestStorm: calls come, wait, share, and leave at random, of a service that permits, refuses,
// fails and hangs at random. Each is counted once, and nothing is left.
func TestStorm(t *testing.T) {
	const callers, calls = 40, 25
	envoy := func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		switch rand.N(5) {
		case 0:
			return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}}, nil
		case 1:
			return nil, status.Error(codes.Internal, "odd")
		case 2:
			<-ctx.Done()
			return nil, ctx.Err()
		default:
			return &authv3.CheckResponse{}, nil
		}
	}
	forward := func(w http.ResponseWriter, r *http.Request) {
		switch rand.N(5) {
		case 0:
			w.WriteHeader(http.StatusForbidden)
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			<-r.Context().Done()
		}
	}
	plainOptions := patient()
	plainOptions.Timeout, plainOptions.Concurrent = 20*time.Millisecond, 8
	cachedOptions := plainOptions
	cachedOptions.Names, cachedOptions.Cache = []string{"x-a"}, Cache{TTL: 10 * time.Millisecond, Entries: 3}
	cachedOptions.FailOpen = true
	for _, c := range []*Checker{
		grpcChecker(t, GRPC{}, plainOptions, envoy), grpcChecker(t, GRPC{}, cachedOptions, envoy),
		httpChecker(t, HTTP{}, plainOptions, forward), httpChecker(t, HTTP{}, cachedOptions, forward),
	} {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range calls {
					ctx, cancel := context.WithTimeout(t.Context(), rand.N(30*time.Millisecond))
					r := aCall()
					r.Metadata["x-a"] = []string{strconv.Itoa(rand.N(10))}
					if a, err := c.Check(ctx, r); err == nil {
						a.Request.Apply(r.Metadata)
					}
					r.Metadata["x-a"][0] = "changed" // the caller's own again
					cancel()
				}
			})
		}
		wg.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		s := c.Snapshot()
		if sum := s.Allowed + s.Denied + s.Failed + s.Open + s.Cancelled; sum != callers*calls || s.Entries > 3 {
			t.Errorf("%d calls are counted as %+v", callers*calls, s)
		}
		if most := callers*calls - s.Cached - s.Shared; s.Asked > most {
			t.Errorf("more questions were asked than for %d calls that had to: %+v", most, s)
		}
		if len(c.flights.byKey) != 0 {
			t.Errorf("%d shared questions are left", len(c.flights.byKey))
		}
	}
}
