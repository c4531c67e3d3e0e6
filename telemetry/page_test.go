package telemetry

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
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

// TestNamesShowKinds holds names to what the page says of them.
func TestNamesShowKinds(t *testing.T) {
	histograms := 0
	for _, f := range families {
		if f.Kind == "histogram" {
			histograms++
		}
		if strings.HasSuffix(f.Name, "_total") != (f.Kind == "counter") {
			t.Errorf("%s is a %s", f.Name, f.Kind)
		}
	}
	if histograms != 4 {
		t.Errorf("%d histograms, and the page says four", histograms)
	}
}

func metricsPage() []byte {
	var b bytes.Buffer
	b.WriteString(strings.ReplaceAll(`# Metrics

For operators who run Prometheus. Generated from 'telemetry/families.go'.

culvert serves metrics at '/metrics' on the address in ['health.listen'](configuration.md#healthlisten), unless 'health.metrics' is
'false'. It answers up to 4 requests at a time, each within 8 s, and can export them by [OTLP](../guides/otlp.md#metrics). The
[run book](../guides/runbook.md#alerts) says on which to alert.

'rpc_server_call_duration_seconds' is that of
[OpenTelemetry](https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/) ('rpc.server.call.duration'). There are also the usual 'go_*'
and 'process_*'. Names that end in '_total' are counters, four are histograms, the others are gauges. Histograms have buckets from 5 ms to
10 s, and are also native histograms. Those by route have buckets from 5 ms to an hour only.

| metric | labels | value |
|---|---|---|
`, "'", "`"))
	for _, f := range Families() {
		names := make([]string, len(f.Labels))
		for i, l := range f.Labels {
			names[i] = "`" + l + "`"
		}
		help := f.Help
		if f.Kind == "histogram" {
			help = "histogram: " + help
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, strings.Join(names, ", "), help)
	}
	b.WriteString(`
## Labels

No client can choose a label's value freely. A method gets its own time series once a backend has shown to know it, by a message or by
a status that only the method gives.

| label | meaning |
|---|---|
`)
	for _, l := range labels {
		if l.Meaning == inMetric {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", l.Name, l.Meaning)
	}
	b.WriteString("\nNext: [the log](log.md), [errors](errors.md).\n")
	return b.Bytes()
}

// A label is a label of culvert's metrics and its meaning, for the page.
type label struct{ Name, Meaning string }

// inMetric is the meaning of a label that the text of its metrics has.
const inMetric = ""

// labels has each label once.
var labels = []label{
	{"age", "`<1s`, `1s-1m`, `1m-1h`, `1h-1d` or `>1d`"},
	{"backend", "the backend's name; `default` for the one in `backend`. Of a call that went to several, it is the last. `_OTHER`: as for `route`"},
	{"cause", "`queue` or `receiver`"},
	{"certificate", inMetric},
	{"direction", "`in`: from clients to backends; `out`: from backends to clients"},
	{"enforced", inMetric},
	{"error_type", "the status code if it is UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE or DATA_LOSS; else empty"},
	{"go_version", "the version of Go that built culvert"},
	{"http_status", "the class of the HTTP status, such as `2xx`; `1xx` is a WebSocket, and `_OTHER` a number over 599. Empty if the client got no answer"},
	{"key", inMetric},
	{"kind", "`connection`, or `tunnel` for HTTP/2 inside a WebSocket"},
	{"listener", "the listener's name; empty if there is one without a name"},
	{"origin", "the source of the status, as in [the log](log.md#calls)"},
	{"outcome", "`sent`: by a route's [retry](../guides/several-backends.md#retries); `elsewhere`: to another address, because one had refused the call unseen; `withheld`: not sent despite `retry`"},
	{"reason", "of calls, web requests and refusals: culvert's [reason](errors.md); of connections: why they ended, as in [the log](log.md#connections)"},
	{"result", "`applied` or `rejected`"},
	{"route", "the route's name; empty without [routes](routes.md), or if none matched. Each metric has the first " + strconv.Itoa(bridge.MaxRoutes) + " pairs of a route and a backend that it counts something for, and as many routes of calls without a backend. `_OTHER`: all others, and the last calls of removed ones"},
	{"rpc_method", "the method; `_OTHER` for unknown ones, and after the first " + strconv.Itoa(maxMethods)},
	{"rpc_status_code", "the status that the client got; `_OTHER` for a number without a name"},
	{"rpc_system_name", "`grpc`"},
	{"signal", "`traces`, `metrics` or `logs`"},
	{"state", "`accepts`: the address gets new calls; `unhealthy`: its health check fails; `down`: there is no connection"},
	{"transport", "of calls: the [client protocol](protocols.md), or `web` for requests to the [web server](../guides/one-origin.md); of connections: `http/1.1`, `h2` or `websocket`"},
	{"version", inMetric},
}
