package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// hang answers when its context has ended.
func hang(ctx context.Context, _ *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestServiceThatHangsCostsATimeout(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := patient()
			o.Timeout, o.FailClosed = 0, closed
			l := fakeLimiter(t, o, &fakeService{answer: hang})
			began := time.Now()
			a, err := l.Check(t.Context(), aCall())
			if took := time.Since(began); took != DefaultTimeout {
				t.Errorf("took %v, want %v", took, DefaultTimeout)
			}
			got := l.Snapshot()
			if !closed {
				if err != nil || a.Open == nil || got.Open != 1 || !strings.Contains(a.Open.Error(), "no answer in 50ms") {
					t.Errorf("open: got %+v, %v, %+v", a, err, got)
				}
			} else if r := asRefusal(t, err); r.Kind != Unavailable || got.Failed != 1 || !strings.Contains(r.Error(), "no answer in 50ms") {
				t.Errorf("closed: got %+v, %+v", r, got)
			}
			if got.Asked != 1 || got.Mean != DefaultTimeout {
				t.Errorf("%d questions took %v", got.Asked, got.Mean)
			}
		})
	}
}

// TestFailOpenCoversUnusableAnswers and nothing else: neither a limit that was reached, nor a
// client that has left.
func TestFailOpenCoversUnusableAnswers(t *testing.T) {
	var say answer
	s := &fakeService{answer: func(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		return say(ctx, q)
	}}
	open, o := fakeLimiter(t, patient(), s), patient()
	o.FailClosed = true
	shut := fakeLimiter(t, o, s)
	fails := func(c codes.Code) answer {
		return func(context.Context, *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
			return nil, status.Error(c, "a text\r\nand more")
		}
	}
	rows := map[string]answer{"UNKNOWN": says(0), "code 7": says(7)}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		rows["ShouldRateLimit: "+c.String()+": a text"] = fails(c)
	}
	for want, a := range rows {
		say = a
		if a, err := open.Check(t.Context(), aCall()); err != nil || a.Open == nil || !strings.Contains(a.Open.Error(), want) {
			t.Errorf("%s: got %+v, %v", want, a, err)
		}
		if _, err := shut.Check(t.Context(), aCall()); asRefusal(t, err).Kind != Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	say = says(over)
	left, leave := context.WithCancelCause(t.Context())
	errLeft := errors.New("the client has left")
	leave(errLeft)
	for _, l := range []*Limiter{open, shut} {
		if _, err := l.Check(t.Context(), aCall()); asRefusal(t, err).Kind != OverLimit {
			t.Errorf("got %v", err)
		}
		if a, err := l.Check(left, aCall()); err == nil {
			t.Errorf("the client has left: got %+v", a)
		}
	}
	say = hang
	for _, l := range []*Limiter{open, shut} {
		if a, err := l.Check(left, aCall()); !errors.Is(err, errLeft) {
			t.Errorf("the client has left: got %+v, %v", a, err)
		}
	}
	n := uint64(len(rows))
	if got := open.Snapshot(); got.Open != n || got.Failed != 0 || got.Denied+got.Cancelled != 3 {
		t.Errorf("%+v", got)
	}
	if got := shut.Snapshot(); got.Failed != n || got.Open != 0 || got.Denied+got.Cancelled != 3 {
		t.Errorf("%+v", got)
	}
}

// TestCallsWithoutADescriptorArentAsked, even if no service answers.
func TestCallsWithoutADescriptorArentAsked(t *testing.T) {
	s := &fakeService{answer: hang}
	o := patient()
	o.FailClosed = true
	l := fakeLimiter(t, o, s)
	if a, err := l.Check(t.Context(), Facts{Method: "/shop.v1.Orders/Get"}); err != nil || a.Open != nil {
		t.Errorf("got %+v, %v", a, err)
	}
	if got := l.Snapshot(); s.asked.Load() != 0 || got.Unasked != 1 || got.Asked != 0 {
		t.Errorf("asked %d times, %+v", s.asked.Load(), got)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = l.Check(t.Context(), Facts{Method: "/shop.v1.Orders/Get"}) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// TestQuestionsAtOnceAreBounded: further ones wait, within their time-out.
func TestQuestionsAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := patient()
		o.Concurrent, o.FailClosed = 3, true
		goOn := make(chan struct{})
		var free atomic.Bool
		l := fakeLimiter(t, o, &fakeService{answer: func(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
			if !free.Load() {
				<-goOn // longer than its time
			}
			return says(ok)(ctx, q)
		}})
		var mu sync.Mutex
		got := map[string]int{}
		var calls sync.WaitGroup
		ask := func() {
			_, err := l.Check(t.Context(), aCall())
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(err)]++
		}
		for range 10 {
			calls.Go(ask)
		}
		synctest.Wait()
		if asking := l.Snapshot().Asking; asking != 3 {
			t.Errorf("%d questions at once, want 3", asking)
		}
		time.Sleep(o.Timeout)
		synctest.Wait()
		waited := fmt.Sprintf("all 3 questions at once wait for an answer: %v", l.late)
		if got[waited] != 7 || len(got) != 1 {
			t.Errorf("got %v, want 7 of %q", got, waited)
		}
		free.Store(true)
		close(goOn)
		calls.Wait()
		for range 4 {
			ask()
		}
		if got["<nil>"] != 7 {
			t.Errorf("a slot wasn't returned: %v", got)
		}
	})
}

// TestCancelEndsAtOnce: also of a call that waits for a slot.
func TestCancelEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := patient()
		o.Concurrent = 1
		l := fakeLimiter(t, o, &fakeService{answer: hang})
		ctx, cancel := context.WithCancelCause(t.Context())
		errLeft := errors.New("the client has left")
		began := time.Now()
		var calls sync.WaitGroup
		for range 2 {
			calls.Go(func() {
				if a, err := l.Check(ctx, aCall()); !errors.Is(err, errLeft) {
					t.Errorf("got %+v, %v", a, err)
				}
			})
		}
		synctest.Wait()
		cancel(errLeft)
		calls.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		if got := l.Snapshot(); got.Cancelled != 2 || got.Asking != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestDeadlineOfTheCallIsTheCallers: it ends the call, and fail-open doesn't let it pass. The
// service doesn't know it, and gets nothing else of the call's context.
func TestDeadlineOfTheCallIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fakeLimiter(t, patient(), &fakeService{answer: func(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
			if deadline, _ := ctx.Deadline(); time.Until(deadline) != MaxTimeout {
				t.Errorf("the service has until %v", deadline)
			}
			if md, there := metadata.FromOutgoingContext(ctx); there {
				t.Errorf("the service gets %v", md)
			}
			return hang(ctx, q)
		}})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer abcdefghijkl")
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if a, err := l.Check(ctx, aCall()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v, %v", a, err)
		}
	})
}

// TestClosedLimiterAnswersNobody: Close ends questions and waits for them.
func TestClosedLimiterAnswersNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		s := &fakeService{answer: func(ctx context.Context, _ *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // of the connection's end
			ended.Store(true)
			return nil, ctx.Err()
		}}
		l := fakeLimiter(t, patient(), s) // fail-open doesn't cover this
		result := make(chan error, 1)
		go func() {
			_, err := l.Check(t.Context(), aCall())
			result <- err
		}()
		synctest.Wait()
		if err := l.Close(); err != nil || !ended.Load() {
			t.Errorf("Close returned %v before the question's end", err)
		}
		if err := <-result; !errors.Is(err, errClosed) {
			t.Errorf("got %v, want %v", err, errClosed)
		}
		if _, err := l.Check(t.Context(), aCall()); !errors.Is(err, errClosed) || s.asked.Load() != 1 {
			t.Errorf("after Close: got %v, want %v", err, errClosed)
		}
		if got := l.Snapshot(); got.Failed != 2 || got.Asking != 0 {
			t.Errorf("%+v", got)
		}
	})
}
