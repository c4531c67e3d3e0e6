package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The lines in docs/how-it-works/compatibility.md around what TestPausedReaders writes.
const (
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
	for _, reader := range pausingReaders {
		for _, pause := range pauses {
			fmt.Fprintf(&b, "| %s | %.0f s |", reader.name, pause.Seconds())
			for _, rate := range pauseRates {
				mark, cell := "✓", pauseCell{reader: reader, rate: rate, pause: pause}
				switch {
				case cell.readAhead():
					mark = "–"
				case failed[cell.String()]:
					mark = "✗"
				}
				fmt.Fprintf(&b, " %s |", mark)
			}
			b.WriteString("\n")
		}
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
	page, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	before, committed, after := cutPauseTable(t, string(page))
	if *update {
		if err := os.WriteFile(pageFile, []byte(before+table+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if committed != table {
		t.Errorf("the table of paused readers in %s is not what this run saw; write it with: go test -run TestPausedReaders -update", pageFile)
	}
}

// cutPauseTable cuts the page around the table of paused readers.
func cutPauseTable(t *testing.T, page string) (before, table, after string) {
	t.Helper()
	before, rest, begins := strings.Cut(page, pauseTableBegin)
	table, after, ends := strings.Cut(rest, pauseTableEnd)
	if !begins || !ends {
		t.Fatalf("%s has no lines %q and %q", pageFile, pauseTableBegin, pauseTableEnd)
	}
	return before + pauseTableBegin, table, pauseTableEnd + after
}

const pausedHead = `
## Readers that stop and go on

A page in a debugger, a busy tab, a laptop asleep: the client stops reading in the middle of a stream, its kernel
acknowledges what culvert sends until it has no room, and the client goes on later. **✓**: every message arrived, in
order, with the status OK.

- The columns are the rate at which the server produces the stream. At *line speed* it sends 12.5 MiB at once
  as soon as the reader stands still. At lower rates culvert's writes may never block.
- A reader stops some 4 s after its call began. The stream ends some 4 s after it goes on, or after 16 MB. In the last
  column the server sends 600 kB as soon as the reader stands still, and ends the call.
- *curl* is stopped by SIGSTOP. *grpc-go* is frozen at its connection: it doesn't answer pings either. A page of
  *Chromium* waits for a synchronous request, which blocks it as a busy loop does, or in a debugger. While a debugger
  holds a page, Chromium may read all of a ` + "`fetch`" + ` or an XHR into its own memory: **–**, nothing stands still.
- *WebSocket* and *XHR* are improbable-eng's client, *fetch* is connect-web. *TLS* and *h2* are culvert's own TLS.

A reader may stop for up to ` + "[`limits.slow_consumer_timeout`](../reference/configuration.md#limitsslow_consumer_timeout)" + ` (5 min).
` + "`make test-long`" + ` runs it. To write the table anew:
` + "`cd e2e && go test -run TestPausedReaders -update`" + `.

`
