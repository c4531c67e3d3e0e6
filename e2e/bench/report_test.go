package main

import (
	"strings"
	"testing"
)

// TestCostsOverTheBoundAreMissed: by instructions or by allocations, and only without
// metrics.
func TestCostsOverTheBoundAreMissed(t *testing.T) {
	older := count{instructions: 1000, mallocs: 100}
	for _, c := range []struct {
		name   string
		count  count
		missed bool
	}{
		{tallyOff, count{instructions: 1029, mallocs: 102}, false},
		{tallyOff, count{instructions: 1031, mallocs: 100}, true},
		{tallyOff, count{instructions: 1000, mallocs: 104}, true},
		{tallyMetrics, count{instructions: 2000, mallocs: 200}, false},
		{tallyOlder, older, false},
	} {
		if got := missed(c.name, c.count, older); strings.Contains(got, "MISSED") != c.missed {
			t.Errorf("%s with %+v: %q, want MISSED %v", c.name, c.count, got, c.missed)
		}
	}
}
