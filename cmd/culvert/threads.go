package main

import (
	"os"
	"runtime"
	"time"
)

// Threads is how many threads run Go code (GOMAXPROCS), and what the looks at
// the load so far have led to.
//
// One that has little to do costs more than it gives: each message wakes it, it
// looks for work, takes it to another CPU and sleeps again. So there are as many
// as the load keeps busy, one at first.
type threads struct {
	count int
	loose int // looks in a row at which half of them would have done
}

const (
	threadsLook  = 100 * time.Millisecond
	threadsRest  = 500 * time.Millisecond // instead, while nothing is to be done
	threadsIdle  = 0.1                    // so busy, nothing is
	threadsFull  = 0.9                    // so busy, they are too few
	threadsLoose = 0.7                    // so busy, fewer are enough
	threadsCalm  = 20                     // looks before there are fewer
)

// after is what follows a look at which so many were busy. There are at most
// so many as most.
func (t threads) after(busy float64, most int) threads {
	half := max(t.count/2, 1)
	switch {
	case busy >= threadsFull*float64(t.count):
		return threads{count: min(2*t.count, most)}
	case half == t.count || busy > threadsLoose*float64(half):
		return threads{count: t.count}
	case t.loose+1 < threadsCalm:
		return threads{t.count, t.loose + 1}
	default:
		return threads{count: half}
	}
}

// paceThreads lets the number of threads follow the load, unless the operator
// has set GOMAXPROCS or the system doesn't tell how busy they are. stop ends it.
func paceThreads() (stop func()) {
	most := runtime.GOMAXPROCS(0)
	used, ok := cpuTime()
	if !ok || most == 1 || os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		followLoad(done, used, most)
	}()
	return func() {
		close(done)
		<-ended
		runtime.SetDefaultGOMAXPROCS() // and Go follows a container's limit again
	}
}

func followLoad(done <-chan struct{}, used time.Duration, most int) {
	t := threads{count: 1}
	runtime.GOMAXPROCS(t.count)
	wait := threadsLook
	for last := time.Now(); ; {
		select {
		case <-time.After(wait):
		case <-done:
			return
		}
		now := time.Now()
		sum, ok := cpuTime()
		if !ok {
			continue
		}
		busy := float64(sum-used) / float64(now.Sub(last))
		if wait = threadsLook; busy < threadsIdle {
			wait = threadsRest
		}
		next := t.after(busy, most)
		if next.count != t.count {
			runtime.GOMAXPROCS(next.count)
		}
		t, used, last = next, sum, now
	}
}
