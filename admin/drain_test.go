package admin

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// drainOf returns a Drain that counts what it does.
func drainOf() (d *Drain, notReady, refused *atomic.Int32) {
	notReady, refused = new(atomic.Int32), new(atomic.Int32)
	return &Drain{
		NotReady: func() { notReady.Add(1) },
		Refuse:   func() { refused.Add(1) },
		Refuses:  func() bool { return refused.Load() > 0 },
		Calls:    func() int { return 3 },
		Gone:     func() bool { return false },
	}, notReady, refused
}

func TestDrainGoesInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, notReady, refused := drainOf()
		want := func(state DrainState) {
			t.Helper()
			synctest.Wait()
			if got := d.State(); got != state {
				t.Errorf("got %+v, want %+v", got, state)
			}
		}
		want(DrainState{DrainServing, 0, 3})
		d.Begin(5 * time.Second)
		if notReady.Load() != 1 || refused.Load() != 0 {
			t.Errorf("at once: readiness fell %d times, calls were refused %d times; want 1 and 0", notReady.Load(), refused.Load())
		}
		want(DrainState{DrainDelayed, 5, 3})
		time.Sleep(2 * time.Second)
		d.Begin(5 * time.Second) // again: no longer than the first
		want(DrainState{DrainDelayed, 3, 3})
		d.Begin(time.Second) // sooner
		want(DrainState{DrainDelayed, 1, 3})
		time.Sleep(time.Second)
		want(DrainState{DrainRefusing, 0, 3})
		d.Begin(0)
		d.Begin(time.Minute)
		want(DrainState{DrainRefusing, 0, 3})
		d.Stop()
		if notReady.Load() != 1 || refused.Load() != 1 {
			t.Errorf("readiness fell %d times, calls were refused %d times; want 1 and 1", notReady.Load(), refused.Load())
		}
	})
}

// TestDrainWithoutBackends: no delay goes on when the last backend has ended, whether
// before it began or meanwhile.
func TestDrainWithoutBackends(t *testing.T) {
	for _, alive := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			d, notReady, refused := drainOf()
			start := time.Now()
			d.Gone = func() bool { return time.Since(start) >= alive }
			d.Begin(time.Hour)
			time.Sleep(alive)
			synctest.Wait()
			if notReady.Load() != 1 || refused.Load() != 1 || d.State().State != DrainRefusing {
				t.Errorf("%v after the last backend has ended: readiness fell %d times, calls were refused %d times", time.Since(start)-alive, notReady.Load(), refused.Load())
			}
			d.Stop()
		})
	}
}

// TestStoppedDrain: the end of culvert doesn't wait for a delay.
func TestStoppedDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, refused := drainOf()
		d.Begin(time.Hour)
		start := time.Now()
		d.Stop()
		if took := time.Since(start); took != 0 || refused.Load() != 0 {
			t.Errorf("Stop took %v, and calls were refused %d times", took, refused.Load())
		}
	})
	new(Drain).Stop() // of one that didn't begin
}

func TestDrainPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := control(t)
		h := c.Handler()
		for _, step := range []struct {
			method, path string
			status       int
			state        string
		}{
			{"GET", "/drain", 200, DrainServing},
			{"POST", "/drain?delay=-1s", 400, ""},
			{"POST", "/drain?delay=5", 400, ""},
			{"POST", "/drain?delay=25h", 400, ""},
			{"PUT", "/drain", 405, ""},
			{"GET", "/drain", 200, DrainServing},
			{"POST", "/drain?delay=1h", 200, DrainDelayed},
			{"POST", "/drain?delay=1h", 200, DrainDelayed},
			{"POST", "/drain", 200, DrainRefusing},
			{"GET", "/drain", 200, DrainRefusing},
		} {
			w := ask(t, h, step.method, step.path, "", nil)
			synctest.Wait()
			var got DrainState
			if w.Code == 200 {
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
					t.Error(err)
				}
			}
			if w.Code != step.status || got.State != step.state {
				t.Errorf("%s %s: %d %q, want %d and %q", step.method, step.path, w.Code, w.Body, step.status, step.state)
			}
		}
		c.Drain.Stop()
	})
}
