package upstream

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

const (
	defaultBackoff    = 100 * time.Millisecond
	defaultMaxBackoff = time.Second
)

// wantsRetry reports whether a call that ended so is sent again.
func wantsRetry(r *report.Retry, end error) bool {
	if own, ok := errors.AsType[Status](end); ok {
		return slices.Contains(r.Codes, own.Code())
	}
	f, ok := errors.AsType[*report.Fault](end)
	switch {
	case !ok || f.Limit() != "": // a limit that was reached isn't raised by another attempt
		return false
	case f.Unseen():
		return true
	default:
		return slices.Contains(r.Codes, f.StatusCode())
	}
}

// pauseAfter returns the pause after this many attempts.
func pauseAfter(r *report.Retry, attempts int) time.Duration {
	first, most := cmp.Or(r.Backoff, defaultBackoff), cmp.Or(r.MaxBackoff, defaultMaxBackoff)
	pause := min(first<<min(attempts-1, 10), most)
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // it spreads attempts
}

// maxPushback is the longest pause that a backend may ask for.
const maxPushback = time.Minute

// pushback returns the pause that the backend asks for, or -1 if it asks for none. ok
// is false if it wants no other attempt. gRFC A6, "Pushback".
func pushback(trailer metadata.MD) (pause time.Duration, ok bool) {
	values := trailer["grpc-retry-pushback-ms"]
	if len(values) == 0 {
		return -1, true
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	pause = time.Duration(ms) * time.Millisecond
	return pause, err == nil && len(values) == 1 && pause >= 0 && pause <= maxPushback
}

// A retryBudget stops the retries of an upstream while many of its calls fail. It has
// 10 tokens. A failure costs one, and a success gives a tenth back. While no more than
// half are left, no call is sent again. gRFC A6, "Throttling".
type retryBudget struct{ spent atomic.Int64 } // in thousandths

const (
	allTokens    = 10_000
	failureCosts = 1_000
	successGives = 100
)

// failed notes a failure, and reports whether the call may be sent again.
func (b *retryBudget) failed() bool { return b.add(failureCosts) < allTokens/2 }

func (b *retryBudget) succeeded() {
	if b.spent.Load() > 0 {
		b.add(-successGives)
	}
}

func (b *retryBudget) add(n int64) int64 {
	for {
		before := b.spent.Load()
		after := max(0, min(before+n, allTokens))
		if b.spent.CompareAndSwap(before, after) {
			return after
		}
	}
}
