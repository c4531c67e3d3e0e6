package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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

// pause waits until another attempt is due after one that ended so. It returns the
// counter of such attempts then, or how the call ends if there is none.
func (s *Stream) pause(end error, trailer metadata.MD) (counter *atomic.Int64, last error) {
	a := s.again
	if s.goesElsewhere(end) {
		return &a.upstream.sentAgain.elsewhere, nil
	}
	pause, ok := a.due(s.ctx, end, trailer)
	if !ok {
		return nil, a.last(end)
	}
	select {
	case <-time.After(pause):
	case <-s.ctx.Done():
		return nil, a.last(context.Cause(s.ctx))
	}
	a.made++
	f, ok := errors.AsType[*report.Fault](end)
	a.reached = a.reached || !ok || !f.Unseen()
	return &a.upstream.sentAgain.byPolicy, nil
}

// goesElsewhere reports whether a call that its backend has refused unseen, by
// REFUSED_STREAM or a GOAWAY that leaves it out, is sent again at once, to an address that
// hasn't refused it. The policy doesn't count these attempts.
func (s *Stream) goesElsewhere(end error) bool {
	return refusal(end) != nil && s.ctx.Err() == nil && !s.again.isCommitted() && s.call.MayBeServed()
}

// noteRefusal tells the pool that the call's address has refused it, if it ended so. It puts
// into the error how many addresses have refused the call.
func (s *Stream) noteRefusal(end error) {
	f := refusal(end)
	if f == nil {
		return
	}
	if n := s.call.NoteRefusal(); n > 1 {
		f.Text += fmt.Sprintf(" (%d addresses refused it)", n)
	}
}

// refusal returns the fault of a call that ended because its address has refused it
// unseen, or lost it before it was sent, or nil.
func refusal(end error) *report.Fault {
	if f, ok := errors.AsType[*report.Fault](end); ok && f.Reason == report.ReasonUpstreamReset && f.Unseen() {
		return f
	}
	return nil
}

// last returns how the call ends if the last attempt ended so: culvert's own status
// tells whether any attempt may have reached the backend.
func (a *attempts) last(end error) error {
	f, ok := errors.AsType[*report.Fault](end)
	if !a.reached || !ok || f.Sent == report.SentMaybe {
		return end
	}
	ofAll := *f
	ofAll.Sent = report.SentMaybe
	return &ofAll
}

// due returns the pause before the next attempt by the policy. ok is false if there is
// none.
func (a *attempts) due(ctx context.Context, end error, trailer metadata.MD) (pause time.Duration, ok bool) {
	if ctx.Err() != nil || a.policy == nil || !wantsRetry(a.policy, end) {
		if errors.Is(end, io.EOF) {
			a.succeeded()
		}
		return 0, false
	}
	inBudget := a.upstream.budget.failed()
	pause, ok = pushback(trailer)
	if a.made >= a.policy.Attempts || a.isCommitted() || !ok {
		return 0, false
	}
	if !inBudget {
		a.upstream.sentAgain.withheld.Add(1)
		return 0, false
	}
	if pause < 0 {
		pause = pauseAfter(a.policy, a.made)
	}
	// The status of the backend says more than a deadline that passes in the pause.
	deadline, has := ctx.Deadline()
	return pause, !has || time.Until(deadline) >= pause
}

// succeeded notes a success for the budget, which only calls with a policy use.
func (a *attempts) succeeded() {
	if a.policy != nil {
		a.upstream.budget.succeeded()
	}
}

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
