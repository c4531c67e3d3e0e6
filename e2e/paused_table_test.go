package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The page, and the lines in it around what TestPausedReaders writes.
const (
	pausedFile      = "../docs/how-it-works/appendix/paused-readers.md"
	pauseTableBegin = "<!-- by TestPausedReaders -->\n"
	pauseTableEnd   = "<!-- end -->\n"
)

// pauseTable returns the table. A cell that wasn't run counts as one that hasn't
// failed.
func pauseTable(failed map[string]bool) string {
	var b strings.Builder
	b.WriteString("\n| reader | pause |")
	for _, rate := range pauseRates {
		fmt.Fprintf(&b, " %s |", rate.name)
	}
	b.WriteString("\n|---|--:|" + strings.Repeat(":-:|", len(pauseRates)) + "\n")
	var rows []string // from the pause on, in the order of their first readers
	readers := map[string][]string{}
	for _, reader := range pausingReaders {
		var results []string // of this reader, each once
		paused := map[string][]string{}
		for _, pause := range pauses {
			row := " |"
			for _, rate := range pauseRates {
				mark, cell := "✓", pauseCell{reader: reader, rate: rate, pause: pause}
				switch {
				case cell.readAhead():
					mark = "–"
				case failed[cell.String()]:
					mark = "✗"
				}
				row += " " + mark + " |"
			}
			if paused[row] == nil {
				results = append(results, row)
			}
			paused[row] = append(paused[row], fmt.Sprintf("%.0f s", pause.Seconds()))
		}
		for _, result := range results {
			row := strings.Join(paused[result], ", ") + result
			if readers[row] == nil {
				rows = append(rows, row)
			}
			readers[row] = append(readers[row], reader.name)
		}
	}
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s | %s\n", strings.Join(readers[row], rowSeparator), row)
	}
	b.WriteString("\n")
	return b.String()
}

// comparePauseTable holds the published table to what this run saw.
func comparePauseTable(t *testing.T, table string) {
	t.Helper()
	if t.Failed() {
		t.Log("\n" + table)
		return // there is something else to correct first
	}
	page, err := os.ReadFile(pausedFile)
	if err != nil {
		t.Fatal(err)
	}
	before, committed, after := cutPauseTable(t, string(page))
	if *update {
		if err := os.WriteFile(pausedFile, []byte(before+table+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if committed != table {
		t.Errorf("the table of paused readers in %s is not what this run saw; write it with: go test -run TestPausedReaders -update", pausedFile)
	}
}

// cutPauseTable cuts the page around the table of paused readers.
func cutPauseTable(t *testing.T, page string) (before, table, after string) {
	t.Helper()
	before, rest, begins := strings.Cut(page, pauseTableBegin)
	table, after, ends := strings.Cut(rest, pauseTableEnd)
	if !begins || !ends {
		t.Fatalf("%s has no lines %q and %q", pausedFile, pauseTableBegin, pauseTableEnd)
	}
	return before + pauseTableBegin, table, pauseTableEnd + after
}
