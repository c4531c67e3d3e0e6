package check

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

func TestEqualChecksShareAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		s := &fakeService{answer: func(context.Context, Request) verdict {
			<-goOn
			return verdict{answer: Answer{Subject: "alice"}}
		}}
		c := fakeChecker(t, cached(time.Minute), s)
		var calls sync.WaitGroup
		for range 100 {
			calls.Go(func() {
				if a, err := c.Check(t.Context(), aCall()); err != nil || a.Subject != "alice" || a.Cached {
					t.Errorf("got %+v, %v", a, err)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		calls.Wait()
		if got := c.Snapshot(); s.asked.Load() != 1 || got.Shared != 99 || got.Allowed != 100 {
			t.Errorf("asked %d times: %+v", s.asked.Load(), got)
		}
	})
}

// TestSharedRefusalsHaveOneAsker: one caller learns that it has cost the service a question.
func TestSharedRefusalsHaveOneAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		s := &fakeService{answer: func(context.Context, Request) verdict {
			<-goOn
			return verdict{refusal: &Refusal{Kind: Unauthenticated, Code: codes.Unauthenticated, Message: unauthenticText, Cause: errors.New("no")}}
		}}
		c := fakeChecker(t, cached(time.Minute), s)
		var calls sync.WaitGroup
		var askers atomic.Int32
		for range 100 {
			calls.Go(func() {
				if a, err := c.Check(t.Context(), aCall()); err == nil || !a.Cached {
					askers.Add(1)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		calls.Wait()
		if a, err := c.Check(t.Context(), aCall()); err == nil || !a.Cached || askers.Load() != 1 || s.asked.Load() != 1 {
			t.Errorf("asked %d times for %d callers, and then %+v, %v", s.asked.Load(), askers.Load(), a, err)
		}
	})
}

// TestCancelOfOneCallerLeavesTheOthers: the first caller's end doesn't end what others wait
// for, and the last one's does.
func TestCancelOfOneCallerLeavesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var ended atomic.Value
		s := &fakeService{answer: func(ctx context.Context, _ Request) verdict {
			select {
			case <-goOn:
				return verdict{}
			case <-ctx.Done():
				ended.Store(context.Cause(ctx))
				return verdict{refusal: unanswered(ctx.Err())}
			}
		}}
		c := fakeChecker(t, cached(time.Minute), s)
		errLeft := errors.New("the client has left")
		ask := func() (cancel context.CancelCauseFunc, result chan error) {
			ctx, cancel := context.WithCancelCause(t.Context())
			result = make(chan error, 1)
			go func() {
				_, err := c.Check(ctx, aCall())
				result <- err
			}()
			synctest.Wait()
			return cancel, result
		}
		leave, first := ask()
		leaveToo, second := ask()
		leave(errLeft)
		if err := <-first; !errors.Is(err, errLeft) {
			t.Errorf("the first caller got %v", err)
		}
		close(goOn)
		if err := <-second; err != nil {
			t.Errorf("the second caller got %v", err)
		}
		leaveToo(nil)

		c.cache.ttl, goOn = 0, make(chan struct{})
		time.Sleep(time.Hour)
		leave, first = ask()
		leaveToo, second = ask()
		leave(errLeft)
		leaveToo(errLeft)
		if err1, err2 := <-first, <-second; !errors.Is(err1, errLeft) || !errors.Is(err2, errLeft) {
			t.Errorf("the callers got %v and %v", err1, err2)
		}
		synctest.Wait()
		if got := ended.Load(); got != errNobodyWaits { //nolint:errorlint // the cause itself
			t.Errorf("without callers, the question ended with %v", got)
		}
		if got := c.Snapshot(); got.Cancelled != 3 || got.Allowed != 1 || got.Asking != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestClosedCheckerAnswersNobody: Close ends questions and waits for them.
func TestClosedCheckerAnswersNobody(t *testing.T) {
	for _, o := range []Options{patient(), cached(time.Minute)} {
		synctest.Test(t, func(t *testing.T) {
			var ended atomic.Bool
			s := &fakeService{answer: func(ctx context.Context, _ Request) verdict {
				<-ctx.Done()
				time.Sleep(time.Second) // of the connection's end
				ended.Store(true)
				return verdict{refusal: unanswered(ctx.Err())}
			}}
			o.FailOpen = true // which doesn't cover this
			c := fakeChecker(t, o, s)
			result := make(chan error, 1)
			go func() {
				_, err := c.Check(t.Context(), aCall())
				result <- err
			}()
			synctest.Wait()
			if err := c.Close(); err != nil || !ended.Load() {
				t.Errorf("Close returned %v before the question's end", err)
			}
			if err := <-result; !errors.Is(err, errClosed) {
				t.Errorf("got %v, want %v", err, errClosed)
			}
			if _, err := c.Check(t.Context(), aCall()); !errors.Is(err, errClosed) || s.asked.Load() != 1 {
				t.Errorf("after Close: got %v, want %v", err, errClosed)
			}
		})
	}
}
