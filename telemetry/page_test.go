package telemetry

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the page of docs/ that is made from the table")

// TestGeneratedPage holds docs/reference/metrics.md to the table.
func TestGeneratedPage(t *testing.T) {
	const path = "../docs/reference/metrics.md"
	want := metricsPage()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from telemetry/families.go; write it anew with: make generate", path)
	}
}

// TestLabelsHaveMeanings: each label of a metric is explained, and no other.
func TestLabelsHaveMeanings(t *testing.T) {
	used := map[string]bool{}
	for _, f := range families {
		for _, l := range f.Labels {
			used[l] = true
			if !slices.ContainsFunc(labels, func(e label) bool { return e.Name == l }) {
				t.Errorf("%s: nothing explains the label %s", f.Name, l)
			}
		}
	}
	for _, l := range labels {
		if !used[l.Name] {
			t.Errorf("no metric has the label %s", l.Name)
		}
	}
}

func metricsPage() []byte {
	var b bytes.Buffer
	b.WriteString(strings.ReplaceAll(`# Metrics

For operators who run Prometheus, or another program that reads its formats. This page is generated from 'telemetry/families.go'.

culvert serves metrics at '/metrics' on the address in ['health.listen'](configuration.md#healthlisten), unless 'health.metrics' is
'false'. It answers up to 4 requests at a time, each within 8 s.

'rpc_server_call_duration_seconds' follows
[the conventions of OpenTelemetry](https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/) ('rpc.server.call.duration'). The usual
metrics of Go programs and of processes ('go_*', 'process_*') are there, too.

Histograms have buckets from 5 ms to 10 s, and are also native histograms.

| metric | kind | labels | value |
|---|---|---|---|
`, "'", "`"))
	for _, f := range Families() {
		names := make([]string, len(f.Labels))
		for i, l := range f.Labels {
			names[i] = "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Kind, strings.Join(names, ", "), f.Help)
	}
	b.WriteString(`
## Labels

No label has a value that a client can choose freely. A method gets its own time series only after a backend has shown to know it, by a
message or by a status that the method itself gives.

| label | meaning |
|---|---|
`)
	for _, l := range labels {
		fmt.Fprintf(&b, "| `%s` | %s |\n", l.Name, l.Meaning)
	}
	b.WriteString("\nNext: [the log](log.md), [errors](errors.md).\n")
	return b.Bytes()
}
