package main

import (
	"os"
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

// TestPageKeepsOtherTables: a run writes the tables that it has measured, and says what it
// measured above them only.
func TestPageKeepsOtherTables(t *testing.T) {
	file, err := os.ReadFile("../../docs/how-it-works/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	before := string(file)
	if got := (&page{}).text(before, "Measured now"); got != before {
		t.Errorf("a run without results changes the page:\n%s", got)
	}
	after := (&page{secured: []string{"| a row |"}}).text(before, "Measured now")
	if strings.Count(after, "\nMeasured ") != 3 || !strings.Contains(after, "## TLS\n\nMeasured now.\n") || !strings.Contains(after, "|\n| a row |\n\n## Memory, start and neighbours\n\nMeasured on ") {
		t.Errorf("a run of one table writes:\n%s", after)
	}
	if got := (&page{secured: []string{"| a row |"}}).text(after, "Measured now"); got != after {
		t.Errorf("the same run again writes:\n%s", got)
	}
}
