package main

import (
	"runtime"
	"slices"
	"testing"
)

func TestThreads(t *testing.T) {
	busy := func(looks ...float64) (all []load) {
		for _, b := range looks {
			all = append(all, load{busy: b})
		}
		return all
	}
	calm := func(looks int, b float64) []load { return slices.Repeat(busy(b), looks) }
	waited := load{busy: 0.2, waited: true}
	for _, c := range []struct {
		name  string
		most  int
		looks []load
		want  int
	}{
		{"a start", 8, nil, 1},
		{"one is enough", 8, busy(0.1, 0.8, 0.89), 1},
		{"one isn't", 8, busy(0.95), 2},
		{"a load that takes all there is", 8, busy(1, 2, 4, 8, 8), 8},
		{"not a power of two", 6, busy(1, 2, 4, 6), 6},
		{"one CPU", 1, append(busy(1, 1), waited), 1},
		{"a gap in a load", 8, busy(1, 0, 0, 0, 2), 4},
		{"a load that fits two", 8, slices.Concat(busy(1), calm(2*threadsCalm, 1)), 2},
		{"calm", 8, slices.Concat(busy(1, 2), calm(threadsCalm, 1.4)), 2},
		{"not calm", 8, slices.Concat(busy(1, 2), calm(threadsCalm, 1.41)), 4},
		{"calm, and then not", 8, slices.Concat(busy(1, 2), calm(threadsCalm-1, 0), busy(1.5), calm(threadsCalm-1, 0)), 4},
		{"calm for long", 6, slices.Concat(busy(1, 2, 4), calm(3*threadsCalm, 0)), 1},
		{"a long wait", 8, []load{waited}, 2},
		{"a long wait, and again", 8, []load{waited, waited}, 4},
		{"soon after a long wait", 8, slices.Concat([]load{waited}, calm(threadsHold-1, 0)), 2},
		{"soon after it, and busy meanwhile", 8, slices.Concat([]load{waited}, calm(300, 0), busy(1), calm(200, 0)), 2},
		{"long after it", 8, slices.Concat([]load{waited}, calm(threadsHold, 0)), 1},
	} {
		got := threads{count: 1}
		for _, l := range c.looks {
			got = got.after(l, c.most)
		}
		if got.count != c.want {
			t.Errorf("%s: %d threads, want %d", c.name, got.count, c.want)
		}
	}
}

// TestOperatorSetsThreads: then nobody else does.
func TestOperatorSetsThreads(t *testing.T) {
	defer runtime.SetDefaultGOMAXPROCS()
	runtime.GOMAXPROCS(3)
	t.Setenv("GOMAXPROCS", "3")
	paceThreads()()
	if got := runtime.GOMAXPROCS(0); got != 3 {
		t.Errorf("GOMAXPROCS=3 is set, and there are %d", got)
	}
}
