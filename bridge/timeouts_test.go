package bridge

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// watch adds a call without a connection to a registry.
func watch(t testing.TB, g *testRegistry) (*watched, context.Context) {
	t.Helper()
	return watchApart(t, g, 0)
}

func watchApart(t testing.TB, g *testRegistry, apart edge.Spread) (*watched, context.Context) {
	t.Helper()
	return watchBy(t, g, apart, &g.limits)
}

func watchBy(t testing.TB, g *testRegistry, apart edge.Spread, limits *Limits) (*watched, context.Context) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(errFinished) })
	held := g.account.NewEntry()
	held.Own(new(memory.Address))
	w := &watched{held: held, cancel: cancel, limits: limits, spread: apart}
	w.progress.Clock = &g.clock
	g.add(w, trafficKey{})
	return w, ctx
}

// stopInside is a client that stops inside a message.
func stopInside(r *watched) {
	r.held.Add(memory.Small, memory.ChunkBytes)
	r.progress.ReadPiece()
}

// waitForRoom waits for all the room there is.
func waitForRoom(ctx context.Context, g *registry) error {
	c := memory.NewClaim(g.account.NewEntry())
	defer c.Done()
	return c.Reserve(ctx, memory.Small, int(g.account.Messages()))
}

// pause returns false when the call ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// A testRegistry is a registry of calls that have the same limits.
type testRegistry struct {
	*registry
	limits Limits
}

func registryOf(limits Limits) *testRegistry {
	return &testRegistry{newRegistry(memory.New(memory.ChunkBytes, 0), nil, noneIdle), withDefaults(limits)}
}

// wantEnd holds that the call is ended for the reason after the time: not a
// moment before, and at most one look later.
func wantEnd(t testing.TB, ctx context.Context, start time.Time, want time.Duration, reason report.Reason, key string) {
	t.Helper()
	<-ctx.Done()
	cause := context.Cause(ctx)
	if got := time.Since(start); got < want || got > want+lookInterval || reasonOf(cause) != reason || !strings.Contains(cause.Error(), key) {
		t.Errorf("ended after %v with %v, want %v (and at most %v more) with %s that names %s", got, cause, want, lookInterval, reason, key)
	}
}

// TestThousandCallsExpireWithinALook of their callers' end, which is one second for all, and not
// before. One whose credential was renewed meanwhile stays.
func TestThousandCallsExpireWithinALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, start := registryOf(Limits{}), time.Now()
		const want = 90*time.Second + 300*time.Millisecond
		renewed, ctx := watch(t, g)
		e := newExpiry(start.Add(want))
		renewed.expires.Store(e)
		var calls []*watched
		var ends sync.WaitGroup
		for range 1000 {
			w, ctx := watch(t, g)
			w.expires.Store(newExpiry(start.Add(want)))
			calls = append(calls, w)
			ends.Go(func() { wantEnd(t, ctx, start, want, report.ReasonTokenExpired, "") })
		}
		time.Sleep(want - time.Second)
		e.set(start.Add(time.Hour))
		ends.Wait()
		time.Sleep(lookInterval)
		if ctx.Err() != nil {
			t.Errorf("the renewed call ended with %v", context.Cause(ctx))
		}
		for _, w := range append(calls, renewed) {
			g.remove(w)
		}
	})
}

func TestCallsAreLookedAfter(t *testing.T) {
	t.Parallel() // it takes seconds of one processor while others wait
	never := time.Duration(math.MaxInt64)
	for _, c := range []struct {
		name   string
		limits Limits
		during func(ctx context.Context, g *registry, r *watched) // beside the call
		want   time.Duration                                      // never: the call may last
		reason report.Reason
		key    string
	}{
		{"without limits", Limits{}, nil, never, "", ""},
		{"age", Limits{MaxAge: time.Minute}, nil, time.Minute, report.ReasonMaxAge, report.KeyMaxAge},
		{"age, though messages pass", Limits{MaxAge: time.Minute, IdleTimeout: 10 * time.Second}, func(ctx context.Context, g *registry, r *watched) {
			for pause(ctx, time.Second) {
				r.lastSeen.Store(g.now())
			}
		}, time.Minute, report.ReasonMaxAge, report.KeyMaxAge},
		{"idle", Limits{IdleTimeout: 30 * time.Second}, nil, 30 * time.Second, report.ReasonIdleTimeout, report.KeyIdle},
		{"idle for a part of a second", Limits{IdleTimeout: 500 * time.Millisecond}, nil, time.Second, report.ReasonIdleTimeout, report.KeyIdle},
		{"idle after a message", Limits{IdleTimeout: 30 * time.Second}, func(ctx context.Context, g *registry, r *watched) {
			pause(ctx, 20*time.Second+time.Millisecond)
			r.lastSeen.Store(g.now())
		}, 50 * time.Second, report.ReasonIdleTimeout, report.KeyIdle},
		{"a route's idle", Limits{IdleTimeout: 10 * time.Second, MaxAge: 20 * time.Second}, func(_ context.Context, _ *registry, r *watched) {
			r.chosen.Store(&route{treatment: &treatment{idleTimeout: 30 * time.Second, maxAge: -1}})
		}, 30 * time.Second, report.ReasonIdleTimeout, report.KeyRouteIdle},
		{"a route's age", Limits{}, func(_ context.Context, _ *registry, r *watched) {
			r.chosen.Store(&route{treatment: &treatment{maxAge: 20 * time.Second}})
		}, 20 * time.Second, report.ReasonMaxAge, report.KeyRouteMaxAge},
		{"a route without a limit", Limits{IdleTimeout: 10 * time.Second, MaxAge: 20 * time.Second}, func(_ context.Context, _ *registry, r *watched) {
			r.chosen.Store(&route{treatment: &treatment{idleTimeout: -1, maxAge: -1}})
		}, never, "", ""},
		{"a route that sets no times", Limits{IdleTimeout: 10 * time.Second}, func(_ context.Context, _ *registry, r *watched) {
			r.chosen.Store(&route{treatment: &plain})
		}, 10 * time.Second, report.ReasonIdleTimeout, report.KeyIdle},
		{"a slow consumer", Limits{SlowConsumerTimeout: 7 * time.Second}, func(_ context.Context, g *registry, r *watched) { r.progress.BeginSend() }, 7 * time.Second, report.ReasonSlowConsumer, report.KeySlowConsumer},
		{"a slow consumer by default", Limits{}, func(_ context.Context, g *registry, r *watched) { r.progress.BeginSend() }, 5 * time.Minute, report.ReasonSlowConsumer, report.KeySlowConsumer},
		{"a consumer that takes something now and then", Limits{SlowConsumerTimeout: 7 * time.Second}, func(ctx context.Context, g *registry, r *watched) {
			for more := true; more; r.progress.EndSend() {
				r.progress.BeginSend()
				more = pause(ctx, 5*time.Second)
			}
		}, never, "", ""},
		{"a slow consumer without limit", Limits{SlowConsumerTimeout: -1}, func(_ context.Context, g *registry, r *watched) { r.progress.BeginSend() }, never, "", ""},
		{"a slow sender by default", Limits{}, func(_ context.Context, _ *registry, r *watched) { stopInside(r) }, 30 * time.Second, report.ReasonSlowSender, report.KeySlowSender},
		{"a sender that stops inside a prefix", Limits{SlowSenderTimeout: 7 * time.Second}, func(_ context.Context, _ *registry, r *watched) { r.progress.ReadPart(1) }, 7 * time.Second, report.ReasonSlowSender, report.KeySlowSender},
		{"a sender of a byte a second", Limits{SlowSenderTimeout: 7 * time.Second}, func(ctx context.Context, _ *registry, r *watched) {
			stopInside(r)
			for pause(ctx, time.Second) {
				r.progress.ReadPart(1)
			}
		}, 8 * time.Second, report.ReasonSlowSender, report.KeySlowSender}, // of the first byte
		{"a sender of just enough", Limits{SlowSenderTimeout: 7 * time.Second}, func(ctx context.Context, _ *registry, r *watched) {
			stopInside(r)
			for pause(ctx, time.Second) {
				r.progress.ReadPart(progress.SlowBytes / 5)
			}
		}, never, "", ""},
		{"a sender that pauses between messages", Limits{SlowSenderTimeout: 7 * time.Second}, func(ctx context.Context, _ *registry, r *watched) {
			for pause(ctx, 20*time.Second) {
				r.progress.ReadPart(2)
				r.progress.ReadPiece()
				pause(ctx, 5*time.Second)
				r.progress.EndRead()
				r.progress.EndParts()
			}
		}, never, "", ""},
		{"half a message while nobody waits", Limits{SlowSenderTimeout: -1}, func(_ context.Context, _ *registry, r *watched) { stopInside(r) }, never, "", ""},
		{"half a message while others wait for memory", Limits{}, func(ctx context.Context, g *registry, r *watched) {
			stopInside(r)
			_ = waitForRoom(ctx, g) // waits until the call ends
		}, memory.Patience / 2, report.ReasonLimitExceeded, report.KeyBufferedBytes},
		{"a message not taken while others wait for memory", Limits{}, func(ctx context.Context, g *registry, r *watched) {
			r.held.Add(memory.Small, memory.ChunkBytes)
			r.progress.BeginSend()
			_ = waitForRoom(ctx, g) // waits until the call ends
		}, memory.Patience / 2, report.ReasonLimitExceeded, report.KeyBufferedBytes},
		{"a message that gets on while others wait for memory", Limits{}, func(ctx context.Context, g *registry, r *watched) {
			stopInside(r)
			var waiter sync.WaitGroup
			waiter.Go(func() {
				for pause(ctx, time.Nanosecond) { // again when the patience is over
					_ = waitForRoom(ctx, g)
				}
			})
			for pause(ctx, 3*time.Second) {
				r.progress.ReadPiece()
			}
			waiter.Wait()
		}, never, "", ""},
		{"little held while others wait for memory", Limits{SlowSenderTimeout: -1}, func(ctx context.Context, g *registry, r *watched) {
			r.held.Add(memory.Small, 1<<10)
			r.progress.ReadPiece()
			for pause(ctx, time.Nanosecond) { // again when the patience is over
				_ = waitForRoom(ctx, g)
			}
		}, never, "", ""},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := registryOf(c.limits)
				r, ctx := watch(t, g)
				start := time.Now()
				var beside sync.WaitGroup
				if c.during != nil {
					beside.Go(func() { c.during(ctx, g.registry, r) })
				}
				if c.want == never {
					elapse(24 * time.Hour)
					if ctx.Err() != nil {
						t.Errorf("ended with %v, want it to last", context.Cause(ctx))
					}
					r.cancel(errFinished)
				} else {
					wantEnd(t, ctx, start, c.want, c.reason, c.key)
				}
				beside.Wait()
				g.remove(r)
			})
		})
	}
}

// TestTimesAreSpread: limits of one time aren't reached at one moment, and
// never by more than a tenth too early or too late.
func TestTimesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{MaxAge: 1000 * time.Second})
		start := time.Now()
		ends := make(map[time.Duration]int)
		var mu sync.Mutex
		var calls sync.WaitGroup
		for range 200 {
			r, ctx := watchApart(t, g, edge.NewSpread())
			calls.Go(func() {
				<-ctx.Done()
				g.remove(r)
				mu.Lock()
				defer mu.Unlock()
				ends[time.Since(start)]++
			})
		}
		calls.Wait()
		for at, n := range ends {
			if at < 900*time.Second || at > 1101*time.Second {
				t.Errorf("%d calls ended after %v, want 900 s to 1100 s", n, at)
			}
			if n > 50 {
				t.Errorf("%d calls of 200 ended at one moment", n)
			}
		}
	})
}

func TestEachCallHasItsOwnTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{MaxAge: 10 * time.Second})
		start := time.Now()
		first, ctx1 := watch(t, g)
		elapse(4 * time.Second)
		second, ctx2 := watch(t, g)
		wantEnd(t, ctx1, start, 10*time.Second, report.ReasonMaxAge, report.KeyMaxAge)
		if ctx2.Err() != nil {
			t.Error("the second call ended with the first")
		}
		g.remove(first)
		wantEnd(t, ctx2, start, 14*time.Second, report.ReasonMaxAge, report.KeyMaxAge)
		g.remove(second)
	})
}

// TestLimitIsNeverShort: a call that begins between two looks has all of its
// time, and at most a look more.
func TestLimitIsNeverShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{MaxAge: 3 * time.Second})
		first, _ := watch(t, g)
		elapse(900 * time.Millisecond)
		second, ctx := watch(t, g)
		start := time.Now()
		<-ctx.Done()
		if got := time.Since(start); got < 3*time.Second || got > 3*time.Second+lookInterval {
			t.Errorf("ended after %v, want 3s to 4s", got)
		}
		g.remove(first)
		g.remove(second)
	})
}

// TestNoCallsNoLooks: at rest the registry has no timer, and its clock stands.
func TestNoCallsNoLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{})
		for range 3 {
			r, _ := watch(t, g)
			elapse(2500 * time.Millisecond)
			if g.timer == nil {
				t.Error("with a call there are no looks")
			}
			g.remove(r)
			before := g.now()
			elapse(time.Hour)
			if g.timer != nil || g.now() != before {
				t.Errorf("without calls: timer %v, %d looks; want none", g.timer, g.now()-before)
			}
		}
		if err := g.wait(t.Context()); err != nil {
			t.Errorf("wait with no calls: %v", err)
		}
	})
}

// TestCallsComeAndGoDuringLooks: the look that runs sees no call and stops by
// itself, also when a new call comes at that moment.
func TestCallsComeAndGoDuringLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{})
		for range 50 {
			r, _ := watch(t, g)
			<-time.After(lookInterval) // the look begins beside this
			g.remove(r)
			next, _ := watch(t, g)
			elapse(lookInterval / 2)
			if g.timer == nil {
				t.Fatal("with a call there are no looks")
			}
			g.remove(next)
		}
		elapse(time.Minute)
		if g.timer != nil {
			t.Error("without calls there is a timer")
		}
		if err := g.wait(t.Context()); err != nil {
			t.Errorf("wait with no calls: %v", err)
		}
	})
}

// TestCallThatBeginsDuringALook starts no second timer, which would make the
// clock run fast.
func TestCallThatBeginsDuringALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{MaxAge: time.Second})
		next := &watched{held: g.account.NewEntry(), limits: &g.limits, cancel: func(error) {}}
		next.progress.Clock = &g.clock
		begun := false
		first := &watched{held: g.account.NewEntry(), limits: &g.limits, cancel: func(error) {
			if !begun {
				begun = true
				g.add(next, trafficKey{})
			}
		}}
		first.progress.Clock = &g.clock
		g.add(first, trafficKey{})
		elapse(5 * time.Second)
		before := g.now()
		elapse(100 * time.Second)
		if got := g.now() - before; !begun || got != 100 {
			t.Errorf("begun %v; in 100 s there were %d looks", begun, got)
		}
		g.remove(first)
		g.remove(next)
	})
}

func TestWaitingForTheLastCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{})
		first, _ := watch(t, g)
		second, ctx2 := watch(t, g)
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- g.wait(t.Context()) }()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.wait(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait with calls returned %v, want the context's end", err)
		}
		g.remove(first)
		synctest.Wait()
		if len(done) != 0 {
			t.Error("wait returned with a call under way")
		}
		g.cancelAll(errDraining)
		if cause := context.Cause(ctx2); !errors.Is(cause, errDraining) {
			t.Errorf("the call was ended with %v, want %v", cause, errDraining)
		}
		g.remove(second)
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("wait returned %v", err)
			}
		}
	})
}
