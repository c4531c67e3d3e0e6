package serve

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// gcPercent returns the GOGC in force.
func gcPercent() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}

func TestCollectorIsConstant(t *testing.T) {
	t.Setenv("GOGC", "")
	before := gcPercent()
	_, stop := setCollector()
	for range 20 { // cycles in a row, as under a load of short calls
		runtime.GC()
		if got := gcPercent(); got != collectorPercent {
			t.Fatalf("GOGC is %d, want %d", got, collectorPercent)
		}
	}
	stop()
	if got := gcPercent(); got != before {
		t.Errorf("GOGC is %d after stop, want %d", got, before)
	}
}

func TestOperatorSetsGOGC(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "77")
	block, stop := setCollector()
	defer stop()
	if got := gcPercent(); got != 77 || block != 0 {
		t.Errorf("GOGC is %d beside a block of %d bytes, want the operator's 77 and none", got, block)
	}
}
