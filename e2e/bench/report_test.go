package main

import (
	"os"
	"regexp"
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

// TestClientsAreComparedWithTheBestOfTheOthers: and a count with no other.
func TestClientsAreComparedWithTheBestOfTheOthers(t *testing.T) {
	relative := scriptLoad{clients: socketClients, bound: 0.85}
	for _, c := range []struct {
		load    scriptLoad
		figures map[string]float64
		against string
		missed  bool
	}{
		{relative, map[string]float64{culvertWeb: 8, improbable: 10, niceWeb: 40}, improbable, false},
		{relative, map[string]float64{culvertWeb: 8, improbable: 40, niceWeb: 9}, niceWeb, true},
		{scriptLoad{clients: scriptClients, bound: 0.85}, map[string]float64{culvertWeb: 8, improbable: 10, niceWeb: 40, connectWeb: 8}, improbable, false},
		{scriptLoad{clients: socketClients}, map[string]float64{culvertWeb: 8, improbable: 4, niceWeb: 5}, improbable, false},
		{scriptLoad{clients: socketClients, exactly: 500}, map[string]float64{culvertWeb: 500, improbable: 255, niceWeb: 255}, "–", false},
		{scriptLoad{clients: []string{culvertWeb}, exactly: 5}, map[string]float64{culvertWeb: 6}, "–", true},
	} {
		against, _ := c.load.against(c.figures)
		if _, missed := c.load.limit(c.figures); against != c.against || missed != c.missed {
			t.Errorf("%+v of %v: against %s, missed %v; want %s, %v", c.load, c.figures, against, missed, c.against, c.missed)
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
	if got := (&page{}).text(string(file), "Measured now"); got != string(file) {
		t.Errorf("a run without results changes the page:\n%s", got)
	}
	// As if all tables were of one run.
	measured := regexp.MustCompile(`(?m)^Measured on .*\n\n`)
	first := measured.FindStringIndex(string(file))
	before := string(file[:first[1]]) + measured.ReplaceAllString(string(file[first[1]:]), "")
	after := (&page{secured: []string{"| a row |"}}).text(before, "Measured now")
	if strings.Count(after, "\nMeasured ") != 3 || !strings.Contains(after, "## TLS\n\nMeasured now.\n") || !strings.Contains(after, "|\n| a row |\n\n## Memory, start and neighbours\n\nMeasured on ") {
		t.Errorf("a run of one table writes:\n%s", after)
	}
	if got := (&page{secured: []string{"| a row |"}}).text(after, "Measured now"); got != after {
		t.Errorf("the same run again writes:\n%s", got)
	}
}

// TestRowsHaveTheirBound: 0 is one, and some have none.
func TestRowsHaveTheirBound(t *testing.T) {
	for _, c := range []struct {
		w   weight
		row string
	}{
		{weight{bound: 0, aim: 0}, "| at most 0 | 0 |"},
		{weight{bound: 5, aim: 2}, "| at most 5 | 2 |"},
		{weight{bound: 5, aim: 9, least: true}, "| at least 5 | 9 |"},
		{weight{bound: unbounded}, "| – | – |"},
	} {
		c.w.peers = []string{culvertOne}
		if row := new(page).weight(c.w, map[string]float64{culvertOne: 7}); !strings.Contains(row, c.row) {
			t.Errorf("%+v: %q, want %q in it", c.w, row, c.row)
		}
	}
}
