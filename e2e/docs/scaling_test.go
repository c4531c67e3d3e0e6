package docs

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// readText returns a page's text with each run of white space as one blank.
func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// TestScalingQuotesTheBenchmarks checks that docs/guides/scaling.md has the figures that
// the benchmarks have now.
func TestScalingQuotesTheBenchmarks(t *testing.T) {
	benchmarks, scaling := readText(t, "docs/how-it-works/benchmarks.md"), readText(t, "docs/guides/scaling.md")
	for row, sentence := range map[string]string{
		"memory of an idle WebSocket stream, 10,000 of them, pings on":          "| measured for an idle stream | FIGURE |",
		"memory of an idle WebSocket stream over TLS, 10,000 of them, pings on": "| FIGURE | | counted by culvert",
		"resident at rest": "culvert at rest takes FIGURE.",
		"drain: SIGTERM until the exit, 10,000 open streams, `drain_timeout: 10s`": "10,000 streams with `drain_timeout: 10s` took FIGURE",
	} {
		m := regexp.MustCompile(`\| ` + regexp.QuoteMeta(row) + ` \| \*\*([^*]+)\*\* \|`).FindStringSubmatch(benchmarks)
		if m == nil {
			t.Errorf("the benchmarks have no row %q", row)
			continue
		}
		if want := strings.Replace(sentence, "FIGURE", m[1], 1); !strings.Contains(scaling, want) {
			t.Errorf("docs/guides/scaling.md doesn't say %q", want)
		}
	}
}

// TestScalingFollowsTheRule computes the memory limits of docs/guides/scaling.md, and the table
// of containers in docs/guides/memory-and-cpu.md, by the rule and the figures of the latter.
func TestScalingFollowsTheRule(t *testing.T) {
	rule := readText(t, "docs/guides/memory-and-cpu.md")
	kib := func(pattern string) float64 {
		m := regexp.MustCompile(pattern).FindStringSubmatch(rule)
		if m == nil {
			t.Fatalf("docs/guides/memory-and-cpu.md has nothing like %q", pattern)
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	call := kib(`\| a call \| (\d+) KiB \|`)
	costs := []float64{call + kib(`\| a connection \| (\d+) KiB, with TLS \d+ KiB \|`), call + kib(`\| a connection \| \d+ KiB, with TLS (\d+) KiB \|`)}
	own := kib(`(\d+) MiB of .limits.memory. are for culvert itself`)
	share := kib(`Clients can hold (\d+) % of the rest`) / 100 * 3 / 4

	rows := regexp.MustCompile(`\| ([\d,]+) \| (\d+) \| ([\d,]+) MiB \| ([\d,]+) MiB \|`).FindAllStringSubmatch(readText(t, "docs/guides/scaling.md"), -1)
	if len(rows) < 3 {
		t.Fatalf("the table has %d rows: what is looked for has changed", len(rows))
	}
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	containers := regexp.MustCompile(`\| (\d+) MiB \| (\d+) MiB \| ([\d,]+) \| ([\d,]+) \|`).FindAllStringSubmatch(rule, -1)
	if len(containers) != 3 {
		t.Fatalf("the table of containers has %d rows: what is looked for has changed", len(containers))
	}
	for _, row := range containers {
		room := (number(row[1])*0.9 - own) * share
		if want := math.Round(room * 4 / 3); number(row[2]) != want {
			t.Errorf("a container of %s MiB: the page has %s MiB for clients, want %.0f", row[1], row[2], want)
		}
		for i, cost := range []float64{call, costs[1]} {
			if want := room * 1024 / cost; math.Abs(number(row[3+i])-want) > want*0.02 {
				t.Errorf("a container of %s MiB: the page has %s calls, want about %.0f", row[1], row[3+i], want)
			}
		}
	}
	for _, row := range rows {
		streams := number(row[1])
		if streams*number(row[2]) != 100_000 {
			t.Errorf("%s streams in each of %s pods aren't 100,000", row[1], row[2])
		}
		for i, cost := range costs {
			least := (streams*cost/1024/share + own) / 0.9
			if want := math.Ceil(least/10) * 10; number(row[3+i]) != want {
				t.Errorf("%s streams: the page has a limit of %s MiB, want %.0f", row[1], row[3+i], want)
			}
		}
	}
}
