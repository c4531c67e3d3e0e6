package main

import (
	"os"
	"runtime"
	"runtime/metrics"
	"time"
)

// Threads is how many threads run Go code (GOMAXPROCS), and what the looks at
// the load so far have led to.
//
// One that has little to do costs more than it gives: each message wakes it, it
// looks for work, takes it to another CPU and sleeps again. So there are as many
// as the load keeps busy, one at first. But where goroutines wait long for one
// that works on, as gzip does, there are more, and for long.
type threads struct {
	count int
	calm  int // looks still at which half of them have to be enough, before there are fewer
}

const (
	threadsLook  = 100 * time.Millisecond
	threadsRest  = 500 * time.Millisecond // instead, while nothing is to be done
	threadsIdle  = 0.1                    // so busy, nothing is
	threadsFull  = 0.9                    // so busy, they are too few
	threadsLoose = 0.7                    // so busy, fewer are enough
	threadsCalm  = 20                     // looks before there are fewer
	threadsHold  = 600                    // the same, after a wait that was long

	longWait  = 4e-3 // seconds
	longWaits = 0.05 // of all waits, and at least as many as
	fewWaits  = 2
)

// A load is what one look sees.
type load struct {
	busy   float64 // threads, on average
	waited bool    // goroutines waited long for a thread
}

// after is what follows a look. There are at most so many threads as most.
func (t threads) after(l load, most int) threads {
	more, half := min(2*t.count, most), max(t.count/2, 1)
	switch {
	case l.waited:
		return threads{more, threadsHold}
	case l.busy >= threadsFull*float64(t.count):
		return threads{more, max(t.calm, threadsCalm)}
	case l.busy > threadsLoose*float64(half):
		return threads{t.count, max(t.calm, threadsCalm)}
	case t.calm > 1:
		return threads{t.count, t.calm - 1}
	default:
		return threads{half, threadsCalm}
	}
}

// paceThreads lets the number of threads follow the load, unless the operator
// has set GOMAXPROCS or the system doesn't tell how busy they are. stop ends it.
func paceThreads() (stop func()) {
	most := runtime.GOMAXPROCS(0)
	if _, ok := cpuTime(); !ok || most == 1 || os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		followLoad(done, threads{count: 1}, most)
	}()
	return func() {
		close(done)
		<-ended
		runtime.SetDefaultGOMAXPROCS() // and Go follows a container's limit again
	}
}

func followLoad(done <-chan struct{}, t threads, most int) {
	runtime.GOMAXPROCS(t.count)
	watch := newLoadWatch()
	for wait := threadsLook; ; {
		select {
		case <-time.After(wait):
		case <-done:
			return
		}
		l := watch.look()
		next := t.after(l, most)
		if next.count != t.count {
			runtime.GOMAXPROCS(next.count)
		}
		t = next
		if wait = threadsLook; l.busy < threadsIdle {
			wait = threadsRest
		}
	}
}

// A loadWatch remembers the look before.
type loadWatch struct {
	at    time.Time
	used  time.Duration
	waits [1]metrics.Sample
	all   uint64
	long  uint64
}

func newLoadWatch() *loadWatch {
	w := &loadWatch{waits: [1]metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	w.look()
	return w
}

// look returns the load since the look before.
func (w *loadWatch) look() load {
	now := time.Now()
	used, _ := cpuTime() // it was told before
	metrics.Read(w.waits[:])
	all, long := uint64(0), uint64(0)
	h := w.waits[0].Value.Float64Histogram()
	for i, n := range h.Counts {
		all += n
		if h.Buckets[i] >= longWait {
			long += n
		}
	}
	more, longer := all-w.all, long-w.long
	l := load{
		busy:   float64(used-w.used) / float64(now.Sub(w.at)),
		waited: longer >= fewWaits && float64(longer) >= longWaits*float64(more),
	}
	w.at, w.used, w.all, w.long = now, used, all, long
	return l
}
