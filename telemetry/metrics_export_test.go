package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// exportedMetrics returns the metrics of requests, each as readMetric writes it.
func exportedMetrics(t testing.TB, all []*dto.MetricFamily, now, began time.Time) (lines []string, batches, values int) {
	t.Helper()
	from := source{}
	for b := range batchesOf(all, now, began) {
		batches++
		values += int(b.count)
		for _, m := range itemsOf(t, from.request(b.items)) {
			lines = append(lines, readMetric(t, m)...)
		}
	}
	return lines, batches, values
}

// TestShapesOfMetrics is golden: of each kind of metric, with the names of OpenTelemetry where the
// table has them.
func TestShapesOfMetrics(t *testing.T) {
	label := func(name, value string) *dto.LabelPair {
		return &dto.LabelPair{Name: proto.String(name), Value: proto.String(value)}
	}
	created := timestamppb.New(time.Unix(50, 0))
	exemplar := &dto.Exemplar{
		Label: []*dto.LabelPair{label("trace_id", strings.Repeat("ab", 16)), label("span_id", strings.Repeat("cd", 8))},
		Value: proto.Float64(0.3), Timestamp: timestamppb.New(time.Unix(90, 0)),
	}
	all := []*dto.MetricFamily{
		{Name: proto.String("culvert_calls_total"), Help: proto.String("calls"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{
			{Label: []*dto.LabelPair{label("listener", ""), label("rpc_status_code", "OK")}, Counter: &dto.Counter{Value: proto.Float64(3), CreatedTimestamp: created}},
			{Label: []*dto.LabelPair{label("listener", "b\xff")}, Counter: &dto.Counter{Value: proto.Float64(4)}},
		}},
		{Name: proto.String("culvert_open_calls"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(-1.5)}}}},
		{Name: proto.String("go_gc_duration_seconds"), Type: dto.MetricType_SUMMARY.Enum(), Metric: []*dto.Metric{{Summary: &dto.Summary{
			SampleCount: proto.Uint64(7), SampleSum: proto.Float64(2), Quantile: []*dto.Quantile{{Quantile: proto.Float64(0.5), Value: proto.Float64(0.25)}},
		}}}},
		{Name: proto.String("rpc_server_call_duration_seconds"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{
			Label: []*dto.LabelPair{label("rpc_method", "a.B/C"), label("error_type", "")},
			Histogram: &dto.Histogram{SampleCount: proto.Uint64(6), SampleSum: proto.Float64(9), CreatedTimestamp: created, Bucket: []*dto.Bucket{
				{UpperBound: proto.Float64(0.1), CumulativeCount: proto.Uint64(1)}, {UpperBound: proto.Float64(1), CumulativeCount: proto.Uint64(4), Exemplar: exemplar},
			}},
		}}},
	}
	want := `
culvert_calls_total sum cumulative monotonic
{rpc.status_code=OK} 50 100 =3
{listener=b} 10 100 =4
culvert_open_calls gauge
{} 100 =-1.5
go_gc_duration_seconds quantiles
{} 10 100 count=7 sum=2 0.5=0.25
rpc.server.call.duration histogram cumulative s
{rpc.method=a.B/C} 50 100 count=6 sum=9 exemplar=[90 0.3 5:abababababababababababababababab 4:cdcdcdcdcdcdcdcd] counts=[1 3 2] bounds=[0.1 1]
`
	lines, batches, values := exportedMetrics(t, all, time.Unix(100, 0), time.Unix(10, 0))
	if got := "\n" + strings.Join(lines, "\n") + "\n"; got != want || batches != 1 || values != 5 {
		t.Errorf("%d batches with %d values:\n%s\nwant\n%s", batches, values, got, want)
	}
}

// TestEveryMetricIsExported: each value that Prometheus gets, and no other.
func TestEveryMetricIsExported(t *testing.T) {
	all, err := everything(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	lines, _, values := exportedMetrics(t, all, time.Now(), time.Now())
	want := 0
	for _, f := range all {
		want += len(f.GetMetric())
		name := f.GetName()
		if s, ok := standardNames[name]; ok {
			name = s.name
		}
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+" ") }) {
			t.Errorf("%s isn't exported", name)
		}
	}
	got := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "{") {
			got++
		}
	}
	if got != want || values != want {
		t.Errorf("%d values are exported and %d counted, want %d", got, values, want)
	}
}

// TestManyMetricsAreSeveralRequests: a receiver of gRPC takes 4 MiB by default.
func TestManyMetricsAreSeveralRequests(t *testing.T) {
	r := prometheus.NewRegistry()
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "h", Buckets: routeBuckets}, []string{"method"})
	r.MustRegister(v)
	const series = 5000
	for i := range series {
		v.WithLabelValues(fmt.Sprintf("package.Service/Method%05d", i)).Observe(1)
	}
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	lines, batches, values := exportedMetrics(t, all, time.Now(), time.Now())
	for _, l := range lines {
		if method, ok := strings.CutPrefix(l, "{method="); ok {
			seen[strings.Fields(method)[0]] = true
		}
	}
	if batches < 2 || values != series || len(seen) != series {
		t.Errorf("%d requests with %d values, %d different ones", batches, values, len(seen))
	}
	for b := range batchesOf(all, time.Now(), time.Now()) {
		if len(b.items) > batchBytes {
			t.Errorf("a request has %d bytes", len(b.items))
		}
	}
}

// counting returns a registry with a metric.
func counting() *prometheus.Registry {
	r := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total"})
	c.Inc()
	r.MustRegister(c)
	return r
}

func TestMetricsLeaveOnceAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{requests: make(chan []byte, 100)}
		begin := time.Now()
		x := newMetricsExport(exporterTo(r, new(bytes.Buffer)), counting(), time.Minute)
		for i := range 3 {
			<-r.requests
			if got, want := time.Since(begin), time.Duration(i+1)*time.Minute; got != want {
				t.Errorf("export %d came after %v, want %v", i, got, want)
			}
		}
		x.Close(time.Second)
		if len(r.requests) != 1 || time.Since(begin) != 3*time.Minute {
			t.Errorf("%d exports at the end, after %v", len(r.requests), time.Since(begin))
		}
		if got := x.Exports(); got != (Exports{"traces", 4, 0, 0}) {
			t.Errorf("the counts are %+v", got)
		}
	})
}

// TestBadReceiverCostsMetrics, which are counted, and no more than patience at the end.
func TestBadReceiverCostsMetrics(t *testing.T) {
	for name, r := range map[string]*receiver{"slow": {takes: time.Hour}, "refuses": {answer: errors.New("no room")}} {
		synctest.Test(t, func(t *testing.T) {
			r.requests = make(chan []byte, 100)
			var log bytes.Buffer
			x := newMetricsExport(exporterTo(r, &log), counting(), time.Minute)
			<-r.requests
			<-r.requests
			begin := time.Now()
			x.Close(2 * time.Second)
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("%s: the end took %v", name, took)
			}
			if got := x.Exports(); got.Exported != 0 || got.Failed < 2 || got.Failed > 3 {
				t.Errorf("%s: the counts are %+v", name, got)
			}
			if !strings.Contains(log.String(), "dropped=1") || strings.Count(log.String(), "\n") > 2 {
				t.Errorf("%s: the log has %s", name, log.String())
			}
		})
	}
}
