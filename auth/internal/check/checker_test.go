package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

func TestOptionsThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no reserved names":  func(o *Options) { o.Reserved = nil },
		"none downstream":    func(o *Options) { o.ReservedDown = nil },
		"a negative timeout": func(o *Options) { o.Timeout = -1 },
		"a long timeout":     func(o *Options) { o.Timeout = MaxTimeout + 1 },
		"negative slots":     func(o *Options) { o.Concurrent = -1 },
		"many slots":         func(o *Options) { o.Concurrent = MaxConcurrent + 1 },
		"many bytes":         func(o *Options) { o.Bytes = MaxBytes + 1 },
		"a long TTL":         func(o *Options) { o.Cache.TTL = MaxTTL + 1 },
		"a negative TTL":     func(o *Options) { o.Cache.TTL = -1 },
		"many entries":       func(o *Options) { o.Cache.Entries = MaxEntries + 1 },
		"a reserved own":     func(o *Options) { o.Own = []string{"host"} },
		"an odd own":         func(o *Options) { o.Own = []string{"X-User"} },
		"an upper-case name": func(o *Options) { o.Names = []string{"Authorization"} },
	} {
		o := patient()
		change(&o)
		if c, err := NewGRPC(GRPC{Target: "127.0.0.1:1"}, o); err == nil {
			t.Errorf("%s: accepted in the gRPC form", name)
			c.Close()
		}
		if c, err := NewHTTP(HTTP{URL: "http://127.0.0.1:1"}, o); err == nil {
			t.Errorf("%s: accepted in the HTTP form", name)
			c.Close()
		}
	}
}

// hang answers when its context has ended.
func hang(ctx context.Context, _ Request) verdict {
	<-ctx.Done()
	return verdict{refusal: unanswered(ctx.Err())}
}

func TestServiceThatHangsCostsATimeout(t *testing.T) {
	for _, o := range []Options{patient(), cached(time.Minute)} {
		for _, open := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				o.Timeout, o.FailOpen = 0, open
				c := fakeChecker(t, o, &fakeService{answer: hang})
				began := time.Now()
				answer, err := c.Check(t.Context(), aCall())
				if took := time.Since(began); took != DefaultTimeout {
					t.Errorf("took %v, want %v", took, DefaultTimeout)
				}
				got := c.Snapshot()
				if open {
					if err != nil || answer.Open == nil || got.Open != 1 || !strings.Contains(answer.Open.Error(), "no answer in 250ms") {
						t.Errorf("open: got %+v, %v, %+v", answer, err, got)
					}
				} else if r := asRefusal(t, err); r.Kind != Unavailable || r.Code != codes.Unavailable || got.Failed != 1 || !strings.Contains(r.Error(), "no answer in 250ms") {
					t.Errorf("got %+v, %+v", r, got)
				}
				if got.Asked != 1 || got.Mean != DefaultTimeout {
					t.Errorf("%d questions took %v", got.Asked, got.Mean)
				}
			})
		}
	}
}

// TestFailOpenCoversOnlySilence: an answer that can't be used, a refusal, a request that is
// too large and a client that has left never let a call pass.
func TestFailOpenCoversOnlySilence(t *testing.T) {
	var v verdict
	s := &fakeService{answer: func(context.Context, Request) verdict { return v }}
	o := patient()
	o.FailOpen, o.Bytes = true, 1000
	c := fakeChecker(t, o, s)
	for name, give := range map[string]struct {
		v    verdict
		open bool
	}{
		"nobody":      {verdict{refusal: unanswered(errors.New("gone"))}, true},
		"unusable":    {verdict{refusal: unusable(errors.New("odd"))}, false},
		"refused":     {verdict{refusal: &Refusal{Kind: Denied, Code: codes.PermissionDenied, Message: "no", Cause: errors.New("no")}}, false},
		"no identity": {verdict{refusal: &Refusal{Kind: Unauthenticated, Code: codes.Unauthenticated, Message: "no", Cause: errors.New("no")}}, false},
	} {
		v = give.v
		if answer, err := c.Check(t.Context(), aCall()); (err == nil) != give.open || (answer.Open != nil) != give.open {
			t.Errorf("%s: got %+v, %v", name, answer, err)
		}
	}
	before := s.asked.Load()
	r := aCall()
	r.Metadata["x-a"] = []string{strings.Repeat("a", 1000)}
	if _, err := c.Check(t.Context(), r); asRefusal(t, err).Kind != Denied || s.asked.Load() != before {
		t.Errorf("too large: got %v, asked %d times", err, s.asked.Load()-before)
	}
	left, leave := context.WithCancelCause(t.Context())
	errLeft := errors.New("the client has left")
	leave(errLeft)
	v = verdict{refusal: unanswered(context.Canceled)}
	if answer, err := c.Check(left, aCall()); !errors.Is(err, errLeft) {
		t.Errorf("the client has left: got %+v, %v", answer, err)
	}
	if got := c.Snapshot(); got.Open != 1 || got.Failed != 1 || got.Denied != 3 || got.Cancelled != 1 || got.Allowed != 0 {
		t.Errorf("%+v", got)
	}
}

// TestQuestionsAtOnceAreBounded: further ones wait, within their time-out.
func TestQuestionsAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := patient()
		o.Concurrent, o.Timeout = 3, time.Second
		goOn := make(chan struct{})
		c := fakeChecker(t, o, &fakeService{answer: func(context.Context, Request) verdict {
			<-goOn
			return verdict{}
		}})
		var mu sync.Mutex
		got := map[string]int{}
		var calls sync.WaitGroup
		ask := func() {
			_, err := c.Check(t.Context(), aCall())
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(err)]++
		}
		for range 10 {
			calls.Go(ask)
		}
		synctest.Wait()
		if asking := c.Snapshot().Asking; asking != 3 {
			t.Errorf("%d questions at once, want 3", asking)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		waited := fmt.Sprintf("all 3 questions at once wait for an answer: %v", c.late)
		if got[waited] != 7 || len(got) != 1 {
			t.Errorf("got %v, want 7 of %q", got, waited)
		}
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
	for _, o := range []Options{patient(), cached(time.Minute)} {
		synctest.Test(t, func(t *testing.T) {
			o.Concurrent = 1
			c := fakeChecker(t, o, &fakeService{answer: hang})
			ctx, cancel := context.WithCancelCause(t.Context())
			errLeft := errors.New("the client has left")
			began := time.Now()
			var calls sync.WaitGroup
			for i := range 2 {
				calls.Go(func() {
					r := aCall()
					r.Method = fmt.Sprint(i)
					if _, err := c.Check(ctx, r); !errors.Is(err, errLeft) {
						t.Errorf("got %v", err)
					}
				})
			}
			synctest.Wait()
			cancel(errLeft)
			calls.Wait()
			if took := time.Since(began); took != 0 {
				t.Errorf("took %v", took)
			}
			synctest.Wait()
			if got := c.Snapshot(); got.Cancelled != 2 || got.Asking != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestCallersMayChangeMetadataAfterwards: a shared question goes on when the call that it was
// made for has ended, and its metadata has been changed for the backend.
func TestCallersMayChangeMetadataAfterwards(t *testing.T) {
	r := aCall()
	whole := checkRequest(&r, nil)
	u, err := serviceURL("http://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	request := (&httpService{url: u, names: []string{"x-a"}}).request(&r)
	r.Metadata["x-a"][0] = "changed"
	delete(r.Metadata, "authorization")
	if got := whole.GetAttributes(); got.GetRequest().GetHttp().GetHeaders()["x-a"] != "1,2" {
		t.Errorf("got %v", got)
	}
	if got := request.Header["X-A"]; !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %q", got)
	}
}

func TestSizeOfAQuestion(t *testing.T) {
	r := aCall()
	all, some := r.size(nil), r.size([]string{"x-a", "x-missing"})
	if want := 3*32 + len("authorization") + len(r.Metadata["authorization"][0]) + 2*len("x-b-bin") + 3; all-some != want {
		t.Errorf("all metadata counts %d more than x-a, want %d", all-some, want)
	}
	r.Metadata = metadata.MD{}
	if got := some - r.size(nil); got != 2*(3+1+32) {
		t.Errorf("x-a counts %d", got)
	}
}
