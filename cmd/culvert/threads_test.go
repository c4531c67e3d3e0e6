package main

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestThreads(t *testing.T) {
	calm := func(busy float64) []float64 { return slices.Repeat([]float64{busy}, threadsCalm) }
	for _, c := range []struct {
		name  string
		most  int
		looks []float64
		want  int
	}{
		{"a start", 8, nil, 1},
		{"one is enough", 8, []float64{0.1, 0.8, 0.89}, 1},
		{"one isn't", 8, []float64{0.95}, 2},
		{"a load that takes all there is", 8, []float64{1, 2, 4, 8, 8}, 8},
		{"not a power of two", 6, []float64{1, 2, 4, 6}, 6},
		{"one CPU", 1, []float64{1, 1}, 1},
		{"a gap in a load", 8, []float64{1, 0, 0, 0, 2}, 4},
		{"a load that fits two", 8, slices.Concat([]float64{1}, calm(1), calm(0.71)), 2},
		{"calm", 8, slices.Concat([]float64{1, 2}, calm(1.4)), 2},
		{"calm, and then not", 8, slices.Concat([]float64{1, 2}, calm(0)[1:], []float64{1.5}, calm(0)[1:]), 4},
		{"calm for long", 6, slices.Concat([]float64{1, 2, 4}, calm(0), calm(0), calm(0)), 1},
	} {
		got := threads{count: 1}
		for _, busy := range c.looks {
			got = got.after(busy, c.most)
		}
		if got.count != c.want {
			t.Errorf("%s: %d threads, want %d", c.name, got.count, c.want)
		}
	}
}

// TestThreadsFollowTheLoad: a program at rest has one, and all are back at the
// end. What an operator says holds.
func TestThreadsFollowTheLoad(t *testing.T) {
	runtime.SetDefaultGOMAXPROCS() // this test's own environment may say something else
	before := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(before)

	t.Setenv("GOMAXPROCS", "3")
	paceThreads()()
	if got := runtime.GOMAXPROCS(0); got != 3 {
		t.Errorf("GOMAXPROCS=3 is set, and there are %d", got)
	}

	t.Setenv("GOMAXPROCS", "")
	stop := paceThreads()
	for deadline := time.Now().Add(20 * time.Second); runtime.GOOS == "linux" && runtime.GOMAXPROCS(0) != 1; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("at rest there are %d", runtime.GOMAXPROCS(0))
		}
	}
	stop()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("at the end there are %d, want %d", got, before)
	}
}

func TestCPUTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, ok := cpuTime(); ok {
			t.Error("it is told where nobody measured")
		}
		return
	}
	first, ok := cpuTime()
	for deadline := time.Now().Add(20 * time.Second); ; {
		now, still := cpuTime()
		if !ok || !still || time.Now().After(deadline) {
			t.Fatalf("it isn't told, or stands still at %v", now)
		}
		if now > first {
			return
		}
	}
}
