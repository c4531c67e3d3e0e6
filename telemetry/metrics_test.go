package telemetry

import (
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// aCall is a call that a backend answered with one message.
func aCall(method string) report.CallInfo {
	return report.CallInfo{
		Listener: "public", Transport: "grpc", Method: method, Backend: report.DefaultBackend, Begin: time.Now(), Duration: 20 * time.Millisecond,
		Code: codes.OK, Origin: report.OriginUpstream, MessagesIn: 1, MessagesOut: 1,
	}
}

// told tells of a call from its begin to its end.
func told(m *Metrics, c report.CallInfo) {
	o := m.CallBegan(nil, &c, nil) //nolint:staticcheck // Metrics needs no context
	o.Header(nil)
	o.Message(report.Request, 5)
	for range c.MessagesOut {
		o.Message(report.Response, 7)
	}
	o.Ended(&c)
}

// everything has the metrics see each kind of event.
func everything(t *testing.T) *Metrics {
	t.Helper()
	m := NewMetrics("v1")
	m.SetRoutes([]Route{{Backends: []string{report.DefaultBackend}}})
	told(m, aCall("/a.B/C"))
	slow := aCall("/a.B/C")
	slow.Code, slow.Origin, slow.Reason, slow.MessagesOut = codes.ResourceExhausted, report.OriginCulvert, report.ReasonSlowConsumer, 0
	told(m, slow)
	conn := report.ConnInfo{Listener: "public", Ended: report.EndedSilent}
	m.ConnBegan(conn)
	m.ConnEnded(conn)
	m.Refused(report.Refusal{Reason: report.ReasonLimitExceeded, Key: report.KeyCalls})
	m.WebEnded(&report.WebInfo{Listener: "public", Status: 200, Origin: report.OriginUpstream})
	m.Certificate(report.CertificateInfo{File: "/c.pem", NotAfter: time.Unix(1, 0)})
	m.ConfigApplied()
	m.ConfigInUse("abc", time.Now())
	m.SetSources(func() bridge.Snapshot {
		return bridge.Snapshot{
			Calls:       []bridge.CallCount{{Listener: "public", Transport: "grpc", Calls: 3}},
			Traffic:     []bridge.Traffic{{Listener: "public", Transport: "grpc", In: bridge.Flow{Messages: 1, Bytes: 2, Blocked: time.Second}}, {Listener: "public", Transport: "grpc-web"}},
			Ages:        []bridge.AgeCount{{Below: time.Second, Calls: 2}, {Below: time.Minute}, {Below: time.Hour}, {Below: 24 * time.Hour, Calls: 1}, {Calls: 4}},
			Blocked:     []bridge.Blocked{{Route: "shop", Backend: "orders", In: time.Second, Out: 2 * time.Second}, {Others: true, In: 3 * time.Second}},
			Connections: []report.Connections{{Listener: "public", Transport: "h2", Open: 2}},
			HeldBytes:   1, HeldLimit: 2, ClientBytes: 3, ClientLimit: 4, Evicted: 5, Panics: 6,
			Upstreams: []report.UpstreamState{{Name: "default", Conns: connectivity.Ready, Calls: 6, Waiting: 9, LostPings: 2, Retries: report.Retries{ByPolicy: 3, Elsewhere: 4, Withheld: 5}, Addresses: []report.AddressState{{Accepts: true}, {Accepts: true}, {Unhealthy: true}, {}}}, {Name: "default", Calls: 7, Draining: true}},
		}
	}, func() int64 { return 8 })
	m.SetExporters(counted{"traces", 9, 10, 11})
	return m
}

// counted are the counts of an export.
type counted Exports

func (c counted) Exports() Exports { return Exports(c) }

func gather(t testing.TB, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range all {
		byName[f.GetName()] = f
	}
	return byName
}

// TestTableIsWhatPrometheusGets: every row of the table is collected, with its kind and its labels,
// and nothing else but what Go and the process tell.
func TestTableIsWhatPrometheusGets(t *testing.T) {
	got := gather(t, everything(t))
	for _, f := range Families() {
		have := got[f.Name]
		delete(got, f.Name)
		if have == nil {
			t.Errorf("%s isn't collected", f.Name)
			continue
		}
		var names []string
		for _, l := range have.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		if kind := strings.ToLower(have.GetType().String()); kind != string(f.Kind) || have.GetHelp() != f.Help || !slices.Equal(names, slices.Sorted(slices.Values(f.Labels))) {
			t.Errorf("%s: a %s with the labels %v, want a %s with %v", f.Name, kind, names, f.Kind, f.Labels)
		}
		byRoute := slices.Contains(f.Labels, "route")
		if h := have.GetMetric()[0].GetHistogram(); h != nil && ((h.Schema == nil) != byRoute || len(h.GetBucket()) != len(durationBuckets)) {
			t.Errorf("%s isn't a classic histogram, and a native one unless it is by route: %v", f.Name, h)
		}
		if f.Kind == Counter && !strings.HasSuffix(f.Name, "_total") {
			t.Errorf("%s: the name of a counter ends with _total", f.Name)
		}
	}
	for name := range got {
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s isn't in the table", name)
		}
	}
}

// value returns the value of a time series, whose labels are given as name=value.
func value(t testing.TB, m *Metrics, name string, labels ...string) float64 {
	t.Helper()
	for _, series := range gather(t, m)[name].GetMetric() {
		var have []string
		for _, l := range series.GetLabel() {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(have, l) }) {
			continue
		}
		return series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
	}
	return 0
}

func TestWhatEventsCount(t *testing.T) {
	m := everything(t)
	tried := report.Refusal{Reason: report.ReasonLimitExceeded, Key: report.KeyCalls, ReportOnly: true}
	m.Refused(tried)
	tunnel := report.ConnInfo{Listener: "public", Tunnel: true}
	m.ConnBegan(tunnel)
	m.ConnEnded(tunnel)
	full := aCall("/a.B/C")
	full.Code, full.Origin, full.Reason, full.Limit = codes.ResourceExhausted, report.OriginCulvert, report.ReasonLimitExceeded, report.KeyBufferedBytes
	told(m, full)
	refused := full
	refused.Limit = report.KeyCalls // Refused has counted it
	told(m, refused)
	waiting := full
	waiting.Code, waiting.Reason, waiting.Limit = codes.Unavailable, report.ReasonOverloaded, report.KeyWaitingCalls
	told(m, waiting)
	large := full
	large.Reason, large.Limit = report.ReasonRequestTooLarge, report.KeyRouteMessageBytes
	told(m, large)
	odd := aCall("/a.B/C")
	odd.Code = 4711
	told(m, odd)
	for _, w := range []report.WebInfo{
		{Status: 101, Origin: report.OriginUpstream},
		{Status: 999, Origin: report.OriginUpstream},
		{Status: 502, Origin: report.OriginCulvert, Reason: report.ReasonUpstreamReset},
		{Status: 431, Origin: report.OriginCulvert, Reason: report.ReasonMetadataTooLarge, Limit: report.KeyHeaderBytes},
		{Status: 408, Origin: report.OriginCulvert, Reason: report.ReasonSlowSender},
		{Status: 429, Origin: report.OriginCulvert, Reason: report.ReasonLimitExceeded, Limit: report.KeyCalls}, // Refused has counted it
		{Origin: report.OriginClient, Reason: report.ReasonClientGone},
	} {
		m.WebEnded(&w)
	}
	m.ConfigRejected()
	m.Certificate(report.CertificateInfo{File: "/gone.pem", NotAfter: time.Unix(1, 0)})
	m.Certificate(report.CertificateInfo{Names: []string{"a.tenants.example.com"}, NotAfter: time.Unix(1, 0), OnDemand: true})
	m.ForgetCertificate("/gone.pem")
	for series, want := range map[string]float64{
		"rpc_server_call_duration_seconds rpc_system_name=grpc rpc_method=a.B/C rpc_status_code=OK error_type=": 1,
		"rpc_server_call_duration_seconds rpc_status_code=_OTHER error_type=_OTHER":                             1,
		"culvert_call_first_message_seconds rpc_method=a.B/C":                                                   6,
		"culvert_calls_total listener=public transport=grpc rpc_status_code=OK origin=upstream reason=":         1,
		"culvert_calls_total rpc_status_code=RESOURCE_EXHAUSTED origin=culvert reason=SLOW_CONSUMER":            1,
		"culvert_web_requests_total listener=public http_status=2xx origin=upstream reason=":                    1,
		"culvert_web_requests_total http_status=1xx":                                                            1,
		"culvert_web_requests_total http_status=_OTHER":                                                         1,
		"culvert_web_requests_total http_status=5xx origin=culvert reason=UPSTREAM_RESET":                       1,
		"culvert_web_requests_total http_status=4xx reason=LIMIT_EXCEEDED":                                      1,
		"culvert_web_requests_total http_status= origin=client reason=CLIENT_GONE":                              1,
		"culvert_limits_hit_total key=limits.header_bytes":                                                      1,
		"culvert_limits_hit_total key=limits.slow_sender_timeout":                                               1,
		"culvert_open_calls transport=grpc":                                                                     3,
		"culvert_open_calls transport=grpc-web":                                                                 0,
		"culvert_messages_total direction=in transport=grpc":                                                    1,
		"culvert_message_bytes_total direction=in transport=grpc":                                               2,
		"culvert_blocked_seconds_total direction=in transport=grpc":                                             1,
		"culvert_open_calls_by_age age=<1s":                                                                     2,
		"culvert_open_calls_by_age age=1s-1m":                                                                   0,
		"culvert_open_calls_by_age age=1h-1d":                                                                   1,
		"culvert_open_calls_by_age age=>1d":                                                                     4,
		"culvert_route_blocked_seconds_total route=shop backend=orders direction=in":                            1,
		"culvert_route_blocked_seconds_total route=shop backend=orders direction=out":                           2,
		"culvert_route_blocked_seconds_total route=_OTHER backend=_OTHER direction=in":                          3,
		"culvert_connections_total kind=connection":                                                             1,
		"culvert_connections_total kind=tunnel":                                                                 1,
		"culvert_connections_ended_total kind=connection reason=silent":                                         1,
		"culvert_open_connections transport=h2":                                                                 2,
		"culvert_lost_pings_total listener=public":                                                              1,
		"culvert_refusals_total key=limits.calls enforced=true":                                                 1,
		"culvert_refusals_total key=limits.calls enforced=false":                                                1,
		"culvert_limits_hit_total key=limits.calls":                                                             1,
		"culvert_limits_hit_total key=limits.buffered_bytes":                                                    1,
		"culvert_limits_hit_total key=backend.limits.waiting_calls":                                             1,
		"culvert_limits_hit_total key=routes[].limits.message_bytes":                                            1,
		"culvert_limits_hit_total key=limits.message_bytes":                                                     0,
		"culvert_limits_hit_total key=limits.slow_consumer_timeout":                                             1,
		"culvert_client_memory_bytes":                                                                           3,
		"culvert_evicted_calls_total":                                                                           5,
		"culvert_panics_total":                                                                                  6,
		"culvert_backend_connected backend=default":                                                             1,
		"culvert_backend_lost_pings_total backend=default":                                                      2,
		"culvert_backend_waiting_calls backend=default":                                                         9,
		"culvert_backend_retries_total backend=default outcome=sent":                                            3,
		"culvert_backend_retries_total backend=default outcome=elsewhere":                                       4,
		"culvert_backend_retries_total backend=default outcome=withheld":                                        5,
		"culvert_backend_addresses backend=default state=accepts":                                               2,
		"culvert_backend_addresses backend=default state=unhealthy":                                             1,
		"culvert_backend_addresses backend=default state=down":                                                  1,
		"culvert_backend_calls backend=default":                                                                 13,
		"culvert_certificate_not_after_timestamp_seconds certificate=/c.pem":                                    1,
		"culvert_certificate_not_after_timestamp_seconds certificate=/gone.pem":                                 0,
		"culvert_certificate_not_after_timestamp_seconds certificate=a.tenants.example.com":                     0,
		"culvert_config_reloads_total result=applied":                                                           1,
		"culvert_config_reloads_total result=rejected":                                                          1,
		"culvert_config_last_reload_successful":                                                                 0,
		"culvert_config_info version=abc":                                                                       1,
		"culvert_log_lines_dropped_total":                                                                       8,
		"culvert_otlp_exported_total signal=traces":                                                             9,
		"culvert_otlp_dropped_total cause=queue signal=traces":                                                  10,
		"culvert_otlp_dropped_total cause=receiver signal=traces":                                               11,
	} {
		parts := strings.Fields(series)
		if got := value(t, m, parts[0], parts[1:]...); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
}

// TestWatchedSeriesBeginAtZero: an alert on the increase of a series that begins with
// its first event would miss that event.
func TestWatchedSeriesBeginAtZero(t *testing.T) {
	m := NewMetrics("v1")
	m.ConnBegan(report.ConnInfo{Listener: "public"})
	told(m, aCall("/a.B/C"))
	m.WebEnded(&report.WebInfo{Status: 404, Origin: report.OriginUpstream})
	all := gather(t, m)
	for name, series := range map[string]int{"culvert_lost_pings_total": 1, "culvert_connections_ended_total": 2, "culvert_calls_total": 2, "culvert_web_requests_total": 3} {
		if got := len(all[name].GetMetric()); got != series {
			t.Errorf("%s has %d series, want %d", name, got, series)
		}
	}
}

// TestClosedConnectionsAreZero: a gauge that vanishes, or is absent before the first
// connection, would look like a scrape that failed.
func TestClosedConnectionsAreZero(t *testing.T) {
	m := everything(t)
	gather(t, m)
	m.SetSources(func() bridge.Snapshot { return bridge.Snapshot{} }, func() int64 { return 0 })
	if f := gather(t, m)["culvert_open_connections"]; len(f.GetMetric()) != 2 || f.GetMetric()[0].GetGauge().GetValue()+f.GetMetric()[1].GetGauge().GetValue() != 0 {
		t.Errorf("after the last connection: %v, want 0 of h2 and of an unknown transport", f)
	}
	m = NewMetrics("v1")
	m.Listen("public")
	m.SetSources(func() bridge.Snapshot { return bridge.Snapshot{} }, func() int64 { return 0 })
	if f := gather(t, m)["culvert_open_connections"]; len(f.GetMetric()) != 1 || f.GetMetric()[0].GetGauge().GetValue() != 0 {
		t.Errorf("before the first connection: %v, want 0", f)
	}
}

// TestMethodsNobodyKnowsFold: a client can call any name, so a name counts by itself only
// after a backend has shown to know it, and only so many do.
func TestMethodsNobodyKnowsFold(t *testing.T) {
	m := NewMetrics("v1")
	for i := range 2000 {
		c := aCall(fmt.Sprintf("/hostile.S/M%d", i))
		c.MessagesOut = 0
		c.Code = []codes.Code{codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied, codes.Unknown, codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled, 99}[i%9]
		told(m, c)
		c.Code, c.Origin = codes.NotFound, report.OriginCulvert // not the backend's
		told(m, c)
	}
	series := func() map[string]bool {
		names := map[string]bool{}
		for _, s := range gather(t, m)["rpc_server_call_duration_seconds"].GetMetric() {
			for _, l := range s.GetLabel() {
				if l.GetName() == "rpc_method" {
					names[l.GetValue()] = true
				}
			}
		}
		return names
	}
	if got := series(); len(got) != 1 || !got[other] {
		t.Errorf("methods that no backend knows count as %d names, want only %s", len(got), other)
	}
	for i := range 2 * maxMethods {
		c := aCall(fmt.Sprintf("/real.S/M%d", i))
		if i%2 == 0 {
			c.MessagesOut, c.Code = 0, codes.NotFound
		}
		told(m, c)
	}
	if got := len(series()); got != maxMethods+1 {
		t.Errorf("%d names of methods have time series, want %d and %s", got, maxMethods, other)
	}
	late := aCall("/real.S/M1")
	late.Code = codes.Unimplemented // by now it is known
	told(m, late)
	if got := value(t, m, "rpc_server_call_duration_seconds", "rpc_method=real.S/M1", "rpc_status_code=UNIMPLEMENTED"); got != 1 {
		t.Errorf("a known method's end counts %v times under its name, want once", got)
	}
}

// TestCallsAllocateLittle: what a call looks up is found without an allocation. The
// one is the observer of the call.
func TestCallsAllocateLittle(t *testing.T) {
	m := NewMetrics("v1")
	m.SetRoutes([]Route{{Backends: []string{report.DefaultBackend}}})
	c := aCall("/a.B/C")
	told(m, c)
	if got := testing.AllocsPerRun(100, func() { told(m, c) }); got > 2 {
		t.Errorf("a call costs %v allocations, want its observer and its CallInfo", got)
	}
}

func scrape(t testing.TB, url string, header ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(body)
}

// TestExemplars: a sampled call leaves its trace in the histogram of durations, for scrapers that
// read OpenMetrics.
func TestExemplars(t *testing.T) {
	m := everything(t)
	sampled, unsampled := aCall("/a.B/C"), aCall("/a.B/C")
	sampled.Trace = &report.Trace{ID: [16]byte{0xab}, Span: [8]byte{0xcd}, Sampled: true}
	unsampled.Trace = &report.Trace{ID: [16]byte{0xef}, Span: [8]byte{0x12}}
	told(m, sampled)
	told(m, unsampled)
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
	text := w.Body.String()
	if !strings.HasSuffix(strings.TrimSpace(text), "# EOF") {
		t.Errorf("the answer isn't OpenMetrics: %s", w.Header().Get("Content-Type"))
	}
	exemplar := regexp.MustCompile(`# \{[^}]*trace_id="ab0{30}"[^}]*\} 0\.02 `) // the labels have no order
	if all := exemplar.FindAllString(text, -1); len(all) != 1 || !strings.Contains(all[0], `span_id="cd`+strings.Repeat("0", 14)+`"`) {
		t.Errorf("its exemplars are %q", all)
	}
	if strings.Contains(text, `trace_id="ef`) {
		t.Error("it has the trace of a call that isn't sampled")
	}
}

// TestExemplarsAreFew: a bucket gets one a second, whatever is sampled, and each bucket its own.
func TestExemplarsAreFew(t *testing.T) {
	d := new(durations)
	if len(d.exemplars) != len(durationBuckets)+1 {
		t.Fatalf("%d buckets, want %d", len(d.exemplars), len(durationBuckets)+1)
	}
	now := time.Now()
	for _, c := range []struct {
		after   time.Duration
		seconds float64
		want    bool
	}{
		{0, 0.02, true},
		{0, 0.02, false},
		{0, 0.0251, true},
		{0, 1e9, true},
		{0, 0, true},
		{exemplarEvery - 1, 0.025, false}, // a bucket has its bound
		{exemplarEvery, 0.025, true},
		{exemplarEvery, 0.02, false},
		{-time.Hour, 0.02, true}, // the clock was set back
		{-time.Hour, 0.02, false},
	} {
		if got := d.wantsExemplar(now.Add(c.after), c.seconds); got != c.want {
			t.Errorf("%v after %v: an exemplar %t, want %t", c.seconds, c.after, got, c.want)
		}
	}
}

// TestScrapes are answered in each format that Prometheus asks for, compressed if it
// wants that, and only a few at a time.
func TestScrapes(t *testing.T) {
	m := everything(t)
	server := httptest.NewServer(m.Handler(slog.New(slog.DiscardHandler)))
	defer server.Close()
	status, header, text := scrape(t, server.URL, "Accept-Encoding", "identity")
	if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") || !strings.Contains(text, `culvert_backend_connected{backend="default"} 1`) {
		t.Errorf("HTTP status %d, %v: %.200s", status, header, text)
	}
	_, header, text = scrape(t, server.URL, "Accept-Encoding", "gzip")
	unpacked, err := gzip.NewReader(strings.NewReader(text))
	if header.Get("Content-Encoding") != "gzip" || err != nil {
		t.Fatalf("not compressed: %v, %v", header, err)
	}
	if b, err := io.ReadAll(unpacked); err != nil || !strings.Contains(string(b), "culvert_open_calls") {
		t.Errorf("%v: %.200s", err, b)
	}
	_, header, text = scrape(t, server.URL, "Accept-Encoding", "identity", "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if !strings.HasPrefix(header.Get("Content-Type"), "application/vnd.google.protobuf") || !strings.Contains(text, "rpc_server_call_duration_seconds") {
		t.Errorf("native histograms need protobuf: %v", header)
	}

	slow, waiting := make(chan struct{}), make(chan struct{}, maxScrapes)
	m.SetSources(func() bridge.Snapshot {
		waiting <- struct{}{}
		<-slow
		return bridge.Snapshot{}
	}, func() int64 { return 0 })
	ended := make(chan int, maxScrapes)
	for range maxScrapes {
		go func() {
			status, _, _ := scrape(t, server.URL)
			ended <- status
		}()
	}
	for range maxScrapes {
		<-waiting
	}
	if status, _, _ := scrape(t, server.URL); status != http.StatusServiceUnavailable {
		t.Errorf("one scrape more than %d at a time: HTTP status %d, want %d", maxScrapes, status, http.StatusServiceUnavailable)
	}
	close(slow)
	for range maxScrapes {
		if status := <-ended; status != http.StatusOK {
			t.Errorf("HTTP status %d", status)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	m := NewMetrics("v1")
	m.SetRoutes([]Route{{Backends: []string{report.DefaultBackend}}})
	c := aCall("/a.B/C")
	b.ReportAllocs()
	for b.Loop() {
		o := m.CallBegan(nil, &c, nil) //nolint:staticcheck // Metrics needs no context
		o.Message(report.Request, 5)
		o.Message(report.Response, 7)
		o.Ended(&c)
	}
}
