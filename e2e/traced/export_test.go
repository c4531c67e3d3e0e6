package traced

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// exportFailed begins the line about an export that failed. No receiver gets it: an export of it
// would fail, too.
const exportFailed = "an export by OTLP failed"

// samples returns what a receiver has of metrics in the names of Prometheus: each value by its
// series.
func samples(t *testing.T, all []pmetric.Metric) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	put := func(name string, of pcommon.Map, value float64, more ...string) {
		labels := more
		for k, v := range of.All() {
			labels = append(labels, fmt.Sprintf("%s=%q", strings.ReplaceAll(k, ".", "_"), v.AsString()))
		}
		values[series(name, labels)] = value
	}
	for _, m := range all {
		name := m.Name()
		if name == "rpc.server.call.duration" && m.Unit() == "s" {
			name = "rpc_server_call_duration_seconds"
		}
		switch m.Type() {
		case pmetric.MetricTypeGauge:
			for _, p := range m.Gauge().DataPoints().All() {
				put(name, p.Attributes(), p.DoubleValue())
			}
		case pmetric.MetricTypeSum:
			if !m.Sum().IsMonotonic() || m.Sum().AggregationTemporality() != pmetric.AggregationTemporalityCumulative {
				t.Errorf("%s isn't a counter", name)
			}
			for _, p := range m.Sum().DataPoints().All() {
				if p.StartTimestamp() == 0 || p.StartTimestamp() > p.Timestamp() {
					t.Errorf("%s counts from %v to %v", name, p.StartTimestamp(), p.Timestamp())
				}
				put(name, p.Attributes(), p.DoubleValue())
			}
		case pmetric.MetricTypeHistogram:
			for _, p := range m.Histogram().DataPoints().All() {
				put(name+"_count", p.Attributes(), float64(p.Count()))
				put(name+"_sum", p.Attributes(), p.Sum())
				sum := uint64(0)
				for i, n := range p.BucketCounts().All() {
					le := "+Inf"
					if sum += n; i < p.ExplicitBounds().Len() {
						le = strconv.FormatFloat(p.ExplicitBounds().At(i), 'g', -1, 64)
					}
					put(name+"_bucket", p.Attributes(), float64(sum), fmt.Sprintf("le=%q", le))
				}
			}
		case pmetric.MetricTypeSummary:
			for _, p := range m.Summary().DataPoints().All() {
				put(name+"_count", p.Attributes(), float64(p.Count()))
				put(name+"_sum", p.Attributes(), p.Sum())
				for _, q := range p.QuantileValues().All() {
					put(name, p.Attributes(), q.Value(), fmt.Sprintf("quantile=%q", strconv.FormatFloat(q.Quantile(), 'g', -1, 64)))
				}
			}
		default:
			t.Errorf("%s is a %v", name, m.Type())
		}
	}
	return values
}

func series(name string, labels []string) string {
	slices.Sort(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

var (
	sampleLine  = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	sampleLabel = regexp.MustCompile(`\w+="(?:[^"\\]|\\.)*"`)
)

// scraped returns what /metrics shows, likewise. Empty labels aren't exported.
func (p *program) scraped(t *testing.T) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.health+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := exchange(r)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, m := range sampleLine.FindAllStringSubmatch(string(text), -1) {
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		labels := slices.DeleteFunc(sampleLabel.FindAllString(m[2], -1), func(l string) bool { return strings.HasSuffix(l, `=""`) })
		values[series(m[1], labels)] = value
	}
	return values
}

// TestMetricsAreThoseOfPrometheus: what a scrape before an export and one after it agree on, the
// receiver has, and it has nothing that no scrape has.
func TestMetricsAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(protocol+" "+compression, func(t *testing.T) {
				t.Parallel()
				r := startReceiver(t, nil)
				b := startBackend(t, r)
				p := startCulvert(t, b.address, fmt.Sprintf("otlp: {metrics: %q, protocol: %s, compression: %s, service: edge, metrics_interval: 1s}\n", r.at(protocol), protocol, compression))
				callAll(t, p, b, map[string]string{})
				p.logged(t, "call")
				seen := r.exports()
				before := p.scraped(t)
				exported := samples(t, r.export(t, seen+2)) // the one before may have been under way
				after := p.scraped(t)
				compared := 0
				for name, value := range before {
					if again, ok := after[name]; !ok || again != value || strings.HasPrefix(name, "culvert_otlp_") {
						continue
					}
					compared++
					byScrape := name == "process_open_fds{}" || name == "go_goroutines{}" // it has a connection of its own
					if got, ok := exported[name]; !ok || got != value && !byScrape {
						t.Errorf("%s is %v in /metrics, and %v (%v) at the receiver", name, value, got, ok)
					}
				}
				for name := range exported {
					if _, ok := after[name]; !ok {
						t.Errorf("the receiver has %s, and /metrics hasn't", name)
					}
				}
				if compared < 100 {
					t.Errorf("only %d values were compared", compared)
				}
			})
		}
	}
}

// TestMetricsWithoutScrapes: they are exported if /metrics is off, and once more at the end.
func TestMetricsWithoutScrapes(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, fmt.Sprintf("health: {metrics: false}\notlp: {metrics: %q, metrics_interval: 1h}\n", r.http))
	call(t, "grpc-web", p.address, nil)
	<-b.calls
	p.stop(t)
	got := samples(t, r.export(t, 1))
	if n := got[`culvert_calls_total{origin="upstream",rpc_status_code="OK",transport="grpc-web"}`]; n != 1 {
		t.Errorf("the receiver has %v calls in %d values", n, len(got))
	}
}

// TestExemplarsAreExported: of a sampled call.
func TestExemplarsAreExported(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, fmt.Sprintf("otlp: {endpoint: %q, protocol: grpc, metrics_interval: 1h}\n", r.grpc))
	call(t, "grpc-web", p.address, map[string]string{"x-request-id": "one"})
	<-b.calls
	p.stop(t)
	s := r.find(t, "of the call", func(s span) bool { return s.attribute("culvert.call_id") == "one" })
	for _, m := range r.export(t, 1) {
		if m.Name() != "rpc.server.call.duration" {
			continue
		}
		for _, p := range m.Histogram().DataPoints().All() {
			if e := p.Exemplars(); e.Len() == 1 && e.At(0).TraceID() == s.TraceID() && e.At(0).SpanID() == s.SpanID() {
				return
			}
		}
	}
	t.Error("no histogram has the trace of the call")
}

// TestLinesAreThoseOfTheLog: each line on standard error is a record, from the first to the one
// that says that culvert has stopped.
func TestLinesAreThoseOfTheLog(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := startReceiver(t, nil)
			b := startBackend(t, r)
			p := startCulvert(t, b.address, fmt.Sprintf("otlp: {endpoint: %q, protocol: %s, service: edge}\nlog: {level: debug, fields: [host, metadata.x-tenant]}\nerrors: detailed\n", r.at(protocol), protocol))
			callAll(t, p, b, map[string]string{"x-tenant": "a \x7e \"quoted\""})
			p.stop(t)
			records := r.logs()
			for _, l := range p.lines {
				i := slices.IndexFunc(records, func(r plog.LogRecord) bool { return sameLine(r, l) })
				if i < 0 {
					t.Errorf("no record is %v", l)
					continue
				}
				records = slices.Delete(records, i, i+1)
				if l["msg"] == "stopped" {
					break
				}
			}
			if len(p.lines) < 20 {
				t.Errorf("only %d lines were compared", len(p.lines))
			}
			for _, r := range records {
				if r.Body().Str() != "connection ended" && r.Body().Str() != "connection began" { // they may come while culvert stops
					t.Errorf("the log hasn't the record %s %v", r.Body().Str(), r.Attributes().AsRaw())
				}
			}
		})
	}
}

// sameLine reports whether a record is a line of the log in JSON.
func sameLine(r plog.LogRecord, line map[string]any) bool {
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["time"]))
	if err != nil || !at.Equal(r.Timestamp().AsTime()) || r.Body().Str() != line["msg"] || r.SeverityText() != line["level"] {
		return false
	}
	if r.SeverityNumber() != map[string]plog.SeverityNumber{"DEBUG": plog.SeverityNumberDebug, "INFO": plog.SeverityNumberInfo, "WARN": plog.SeverityNumberWarn, "ERROR": plog.SeverityNumberError}[r.SeverityText()] {
		return false
	}
	want := map[string]string{}
	for k, v := range line {
		switch k {
		case "time", "level", "msg":
		case "trace_id":
			if v != r.TraceID().String() {
				return false
			}
		case "span_id":
			if v != r.SpanID().String() {
				return false
			}
		default:
			want[k] = fmt.Sprint(v)
		}
	}
	if len(want) != r.Attributes().Len() {
		return false
	}
	for k, v := range r.Attributes().All() {
		text := v.AsString()
		if n, err := strconv.ParseFloat(text, 64); err == nil && v.Type() != pcommon.ValueTypeStr {
			text = fmt.Sprint(n)
		}
		if text != want[k] {
			return false
		}
	}
	return true
}

// TestExportsNeedARestart: a reload tells which key.
func TestExportsNeedARestart(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, fmt.Sprintf("otlp: {endpoint: %q}\n", r.http))
	replaceFile(t, p.file, fmt.Sprintf("otlp: {endpoint: %q, logs: none, metrics_interval: 5s}\n", r.http))
	if line := p.logged(t, "configuration not reloaded"); !strings.Contains(fmt.Sprint(line["cause"]), "otlp.logs") || !strings.Contains(fmt.Sprint(line["cause"]), "otlp.metrics_interval") {
		t.Errorf("the log has %v", line)
	}
	p.stop(t)
	if !slices.ContainsFunc(r.logs(), func(r plog.LogRecord) bool { return strings.HasPrefix(r.Body().Str(), "configuration not reloaded") }) {
		t.Error("after it, lines aren't exported")
	}
}

// TestBadReceivers cost spans, metrics and lines, which are counted, and calls nothing.
func TestBadReceivers(t *testing.T) {
	t.Parallel()
	healthy := startReceiver(t, nil)
	b := startBackend(t, healthy)
	never := make(chan struct{})
	slow := startReceiver(t, func(ctx context.Context) error {
		select {
		case <-never:
		case <-ctx.Done():
		}
		return errRefused
	})
	refuses := startReceiver(t, func(context.Context) error { return consumererror.NewPermanent(errRefused) })
	busy := startReceiver(t, func(context.Context) error { return errors.New("later") })
	t.Cleanup(func() { close(never) })
	gone := "http://" + freeAddress(t)
	for name, to := range map[string][2]string{
		"slow, gRPC":    {slow.grpc, "grpc"},
		"slow, HTTP":    {slow.http, "http/protobuf"},
		"refuses, gRPC": {refuses.grpc, "grpc"},
		"refuses, HTTP": {refuses.http, "http/protobuf"},
		"busy, gRPC":    {busy.grpc, "grpc"},
		"busy, HTTP":    {busy.http, "http/protobuf"},
		"gone, gRPC":    {gone, "grpc"},
		"gone, HTTP":    {gone, "http/protobuf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startCulvert(t, b.address, fmt.Sprintf("otlp: {endpoint: %q, protocol: %s, timeout: 500ms, metrics_interval: 1s}\n", to[0], to[1]))
			for range 20 {
				call(t, "grpc-web", p.address, nil)
				<-b.calls
			}
			for _, signal := range []string{"traces", "metrics", "logs"} {
				line := p.loggedLike(t, exportFailed, func(l map[string]any) bool { return l["signal"] == signal })
				if line["cause"] == "" || line["dropped"].(float64) < 1 || line["key"] != "otlp."+signal {
					t.Errorf("the log has %v", line)
				}
				if got := p.metric(t, fmt.Sprintf(`culvert_otlp_dropped_total{cause="receiver",signal=%q}`, signal)); got == "" || got == "0" {
					t.Errorf("%s: %q count as dropped", signal, got)
				}
				if got := p.metric(t, fmt.Sprintf(`culvert_otlp_exported_total{signal=%q}`, signal)); got != "0" {
					t.Errorf("%s: %s count as exported", signal, got)
				}
			}
			call(t, "grpc-web", p.address, nil)
			<-b.calls
			if took := p.stop(t); took > 15*time.Second { // drain_timeout is 20s
				t.Errorf("culvert took %v to end", took)
			}
		})
	}
}
