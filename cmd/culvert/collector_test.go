package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const fast, fair, slow = fastCycle / 2, 2 * fastCycle, 2 * slowCycle
	for _, c := range []struct {
		name   string
		cycles []time.Duration
		want   int
	}{
		{"a start", []time.Duration{fast, fast, fast, slow}, 0},
		{"a load", []time.Duration{fast, fast, fast, fast, fast}, pacerMinExtra},
		{"broken off", []time.Duration{fast, fast, fast, fast, fair, fast}, 0},
		{"fair with it", []time.Duration{fast, fast, fast, fast, fast, fair, fair}, pacerMinExtra},
		{"not fair yet", []time.Duration{fast, fast, fast, fast, fast, fast, fast, fast, fast, fast}, 2 * pacerMinExtra},
		{"over", []time.Duration{fast, fast, fast, fast, fast, slow}, 0},
		{"without end", make([]time.Duration, 100), pacerMaxExtra},
	} {
		var p pace
		for _, each := range c.cycles {
			p = p.after(1, each)
		}
		if p.extra != c.want {
			t.Errorf("%s: %d bytes on top, want %d", c.name, p.extra, c.want)
		}
	}
	if p := (pace{}).after(fastCycles, fast); p.extra != pacerMinExtra {
		t.Errorf("cycles told at once: %d bytes on top, want %d", p.extra, pacerMinExtra)
	}
}

var garbage []byte // it has to be the heap's

// TestPacerFollowsTheCollector: garbage without end makes it give more, and
// at its end all is as before.
func TestPacerFollowsTheCollector(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	stop := paceCollector()
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	deadline := time.Now().Add(20 * time.Second)
	for percent() <= pacerPercent {
		for range 1000 {
			garbage = make([]byte, 4<<10)
		}
		if time.Now().After(deadline) {
			t.Fatalf("garbage without end and %d %% are left", percent())
		}
	}
	stop()
	runtime.GC() // the cleanup that is still armed does nothing
	if got := percent(); got != 100 {
		t.Errorf("%d %% afterwards, want 100", got)
	}
}
