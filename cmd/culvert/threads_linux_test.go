package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestThreadsGrow while goroutines wait for one another, and all are back at the
// end.
func TestThreadsGrow(t *testing.T) {
	runtime.SetDefaultGOMAXPROCS() // this test's own environment may say something else
	standard := runtime.GOMAXPROCS(3)
	defer runtime.SetDefaultGOMAXPROCS()
	t.Setenv("GOMAXPROCS", "")
	stop := paceThreads()
	await := func(what string, reached func(threads int) bool) {
		for deadline := time.Now().Add(30 * time.Second); !reached(runtime.GOMAXPROCS(0)); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: there are %d", what, runtime.GOMAXPROCS(0))
			}
		}
	}
	await("at the start", func(n int) bool { return n == 1 })
	var burning sync.WaitGroup
	var enough atomic.Bool
	for range 4 {
		burning.Go(func() {
			for !enough.Load() {
				for began := time.Now(); time.Since(began) < 5*time.Millisecond; {
				}
				runtime.Gosched()
			}
		})
	}
	await("while four take turns", func(n int) bool { return n == 3 })
	enough.Store(true)
	burning.Wait()
	stop()
	if got := runtime.GOMAXPROCS(0); got != standard {
		t.Errorf("at the end there are %d, want %d", got, standard)
	}
}

// TestThreadsAreFewerAtRest, after looks that are further apart.
func TestThreadsAreFewerAtRest(t *testing.T) {
	defer runtime.SetDefaultGOMAXPROCS()
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		var looking sync.WaitGroup
		looking.Go(func() { followLoad(done, threads{count: 4, calm: threadsCalm}, 4) })
		fewer := threadsLook + (threadsCalm-1)*threadsRest
		for _, c := range []struct {
			at   time.Duration
			want int
		}{{fewer - time.Millisecond, 4}, {time.Second, 2}, {threadsCalm * threadsRest, 1}} {
			time.Sleep(c.at)
			synctest.Wait()
			if got := runtime.GOMAXPROCS(0); got != c.want {
				t.Errorf("%v later there are %d, want %d", c.at, got, c.want)
			}
		}
		close(done)
		looking.Wait()
	})
}
