package telemetry

import (
	"cmp"
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// Metrics is an Observer that counts for Prometheus. Its methods may be called
// concurrently.
//
// A client can't add time series: methods that no backend knows share one value of
// rpc_method, and all other labels have values of culvert's own or of its
// configuration.
type Metrics struct {
	registry  *prometheus.Registry
	state     atomic.Pointer[func() bridge.Snapshot]
	dropped   atomic.Pointer[func() int64]
	exporters atomic.Pointer[[]Exporter]

	durations, firsts, routeDurations, routeFirsts                           *prometheus.HistogramVec
	routeCalls, calls, web, conns, ends, lostPings, refused, limits, reloads *prometheus.CounterVec
	expiry, version                                                          *prometheus.GaugeVec
	lastReload, since                                                        prometheus.Gauge

	methods   cache[string, *methodSeries]      // that a backend knows, by their paths
	others    *methodSeries                     // of all others
	callsOf   cache[endKey, prometheus.Counter] // of calls
	passedOf  cache[place, *endSeries]          // of calls that end with the backend's status
	webOf     cache[webKey, prometheus.Counter] // of web
	listeners cache[string, struct{}]           // by name
	routes    routeTable

	counting sync.Mutex
	had      map[[2]string]int // open connections at the last scrape, by listener and transport
}

var _ report.Observer = (*Metrics)(nil)

// durationBuckets are those that OpenTelemetry asks for.
var durationBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// NewMetrics returns the metrics of a program of this version, with those of its process
// and of the Go runtime.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		durations: newHistogram(callDuration),
		firsts:    newHistogram(firstMessage),
		calls:     newCounter(callsEnded),

		routeDurations: newPlainHistogram(routeDuration),
		routeFirsts:    newPlainHistogram(routeFirst),
		routeCalls:     newCounter(routeCalls),

		web:       newCounter(webRequests),
		conns:     newCounter(connsBegan),
		ends:      newCounter(connsEnded),
		lostPings: newCounter(lostPings),
		refused:   newCounter(refusals),
		limits:    newCounter(limitsHit),
		reloads:   newCounter(reloads),
		expiry:    newGauge(certificateExpiry),
		version:   newGauge(configInfo),
		had:       make(map[[2]string]int),
	}
	lastReload, since, build := newGauge(reloadSucceeded), newGauge(configSince), newGauge(buildInfo)
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.durations, m.firsts, m.routeDurations, m.routeFirsts, m.routeCalls, m.calls, m.web, m.conns, m.ends, m.lostPings, m.refused, m.limits, m.reloads, m.expiry, m.version,
		lastReload, since, build, state{m},
	)
	m.others = m.newMethod(other)
	m.lastReload, m.since = lastReload.WithLabelValues(), since.WithLabelValues()
	m.lastReload.Set(1)
	m.since.SetToCurrentTime()
	build.WithLabelValues(version, runtime.Version()).Set(1)
	for _, result := range []string{"applied", "rejected"} {
		m.reloads.WithLabelValues(result) // at 0: see Listen
	}
	return m
}

func newCounter(f Family) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, f.Labels)
}

func newGauge(f Family) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.Name, Help: f.Help}, f.Labels)
}

// newHistogram returns a classic histogram with a native one beside it. Prometheus takes
// the native one if it is told to, and its buckets have no upper end: streams last for
// hours.
func newHistogram(f Family) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: f.Name, Help: f.Help, Buckets: durationBuckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, f.Labels)
}

// newPlainHistogram returns a classic histogram: to observe a native one takes three times
// as long. Its buckets end at an hour, since streams last for long.
func newPlainHistogram(f Family) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.Name, Help: f.Help, Buckets: routeBuckets}, f.Labels)
}

// routeBuckets are durationBuckets with fewer between, and more behind them.
var routeBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600}

// The bounds of /metrics: how many may ask at a time, and how long an answer may take.
// Prometheus asks for an answer within 10 s by default.
const (
	maxScrapes  = 4
	scrapeLimit = 8 * time.Second
)

// Handler serves the metrics in Prometheus' formats, compressed if the caller accepts
// that. Over the bounds it answers 503.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	metrics := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError,
		Timeout:       scrapeLimit,

		EnableOpenMetrics: m.traced(), // exemplars are in no other text
	})
	// promhttp's own bound would not count callers that read their answer slowly.
	answering := make(chan struct{}, maxScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case answering <- struct{}{}:
			defer func() { <-answering }()
		default:
			http.Error(w, "culvert: "+strconv.Itoa(maxScrapes)+" others are reading the metrics: try again", http.StatusServiceUnavailable)
			return
		}
		// A server with a shorter time-out for all answers is for short ones.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeLimit + time.Second))
		metrics.ServeHTTP(w, r)
	})
}

// other is the value of a label for what has no value of its own. OpenTelemetry,
// "rpc.method".
const other = "_OTHER"

// ConnBegan implements report.Observer.
func (m *Metrics) ConnBegan(c report.ConnInfo) {
	m.Listen(c.Listener)
	m.conns.WithLabelValues(c.Listener, kindOf(c)).Inc()
}

// Listen notes the name of a listener. It begins time series at 0 that alerts watch:
// Prometheus sees an increase only of series that it has seen before.
func (m *Metrics) Listen(name string) {
	m.listeners.get(name, func() struct{} {
		m.lostPings.WithLabelValues(name)
		for _, kind := range []string{"connection", "tunnel"} {
			m.ends.WithLabelValues(name, kind, report.EndedFlood)
		}
		return struct{}{}
	})
}

// ConnEnded implements report.Observer.
func (m *Metrics) ConnEnded(c report.ConnInfo) {
	m.ends.WithLabelValues(c.Listener, kindOf(c), c.Ended).Inc()
	if c.Ended == report.EndedSilent {
		m.lostPings.WithLabelValues(c.Listener).Inc()
	}
}

func kindOf(c report.ConnInfo) string {
	if c.Tunnel {
		return "tunnel"
	}
	return "connection"
}

// Refused implements report.Observer.
func (m *Metrics) Refused(r report.Refusal) {
	m.refused.WithLabelValues(string(r.Reason), r.Key, strconv.FormatBool(!r.ReportOnly)).Inc()
	if r.Reason == report.ReasonLimitExceeded && !r.ReportOnly {
		m.limits.WithLabelValues(r.Key).Inc()
	}
}

// CallBegan implements report.Observer.
func (m *Metrics) CallBegan(_ context.Context, c *report.CallInfo, _ metadata.MD) report.CallObserver {
	return &callMetrics{method: m.method(c.Method), info: c}
}

// Only the goroutine of the responses uses the fields, until Ended.
type callMetrics struct {
	method *methodSeries
	info   *report.CallInfo
	route  *routeSeries // nil: the backend has sent no message, or culvert answers the call itself

	answered bool
}

func (*callMetrics) Header(metadata.MD) {}

// Message observes the first message of the backend. A Snapshot has the count of all.
func (c *callMetrics) Message(d report.Direction, _ int) {
	if d == report.Request || c.answered {
		return
	}
	c.answered = true
	c.learn()
	took := time.Since(c.info.Begin).Seconds()
	c.method.first.Observe(took)
	if !c.info.Own {
		c.route = c.method.m.route(c.info)
		c.route.first.Observe(took)
	}
}

func (c *callMetrics) learn() {
	if m := c.method.m; c.method == m.others {
		c.method = m.learn(c.info.Method)
	}
}

func (c *callMetrics) Ended(i *report.CallInfo) {
	m := c.method.m
	if i.Origin == report.OriginUpstream && showsMethod(i.Code) {
		c.learn()
	} else if c.method == m.others {
		c.method = m.method(i.Method) // another call may have shown it meanwhile
	}
	took := i.Duration.Seconds()
	if d := c.method.duration(i.Code); i.Trace == nil || !i.Trace.Sampled || !d.wantsExemplar(i.Begin.Add(i.Duration), took) {
		d.Observe(took)
	} else {
		observeTraced(d.Observer, took, i.Trace)
	}
	m.ended(i).Inc()
	m.routeEnded(c.route, i, took)
	m.limited(i.Reason, i.Limit)
}

// observeTraced adds a value to a histogram, with the trace of its call as its exemplar. It isn't
// part of Ended, as with addTrace.
//
//go:noinline
func observeTraced(o prometheus.Observer, seconds float64, t *report.Trace) {
	e, ok := o.(prometheus.ExemplarObserver)
	if !ok { // each histogram of the registry is one
		o.Observe(seconds)
		return
	}
	e.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": hex.EncodeToString(t.ID[:]), "span_id": hex.EncodeToString(t.Span[:])})
}

// WebEnded implements report.Observer.
func (m *Metrics) WebEnded(w *report.WebInfo) {
	status := ""
	switch {
	case w.Status > 599:
		status = other
	case w.Status > 0:
		status = strconv.Itoa(w.Status/100) + "xx"
	}
	k := webKey{w.Listener, status, w.Origin, w.Reason}
	m.webOf.get(k, func() prometheus.Counter {
		// At 0, for the alert about defects, which come before an answer or within one: see
		// Listen.
		for _, status := range []string{"", "2xx"} {
			m.web.WithLabelValues(k.listener, status, report.OriginCulvert, string(report.ReasonInternal))
		}
		return m.web.WithLabelValues(k.listener, k.status, k.origin, string(k.reason))
	}).Inc()
	m.limited(w.Reason, w.Limit)
}

// ended returns the counter of calls that end like this one.
func (m *Metrics) ended(i *report.CallInfo) prometheus.Counter {
	from := place{i.Listener, i.Transport}
	if i.Origin != report.OriginUpstream || i.Reason != "" {
		k := endKey{from, statusName(i.Code), i.Origin, i.Reason}
		return m.callsOf.get(k, func() prometheus.Counter { return m.newEnd(k) })
	}
	at := &m.passedOf.get(from, func() *endSeries { return new(endSeries) })[statusIndex(i.Code)]
	if n := at.Load(); n != nil {
		return *n
	}
	n := m.newEnd(endKey{from, statusName(i.Code), i.Origin, i.Reason}) // the same each time
	at.Store(&n)
	return n
}

func (m *Metrics) newEnd(k endKey) prometheus.Counter {
	// At 0, for the alert about defects: see Listen.
	m.calls.WithLabelValues(k.listener, k.transport, statusName(codes.Internal), report.OriginCulvert, string(report.ReasonInternal))
	return m.calls.WithLabelValues(k.listener, k.transport, k.status, k.origin, string(k.reason))
}

// limited counts the limit that ended a call or a request to the web server. One that
// refused it has been counted by Refused, which also counts connections.
func (m *Metrics) limited(reason report.Reason, limit string) {
	if reason == "" {
		return // as nearly always
	}
	key := cmp.Or(limit, limitsOfReasons[reason])
	if key != "" && (reason != report.ReasonLimitExceeded || key == report.KeyBufferedBytes) {
		m.limits.WithLabelValues(key).Inc()
	}
}

// limitsOfReasons has the limit behind each reason, for what names none.
var limitsOfReasons = map[report.Reason]string{
	report.ReasonRequestTooLarge:  report.KeyMessageBytes,
	report.ReasonResponseTooLarge: report.KeyMessageBytes,
	report.ReasonMetadataTooLarge: report.KeyHeaderBytes,
	report.ReasonIdleTimeout:      report.KeyIdle,
	report.ReasonMaxAge:           report.KeyMaxAge,
	report.ReasonSlowConsumer:     report.KeySlowConsumer,
	report.ReasonSlowSender:       report.KeySlowSender,
}

// Certificate notes a certificate in use. One on demand has no series: clients choose
// the names, and the certificate is let go when none asks for it any more.
func (m *Metrics) Certificate(c report.CertificateInfo) {
	if c.OnDemand {
		return
	}
	name := c.File
	if name == "" && len(c.Names) > 0 {
		name = c.Names[0]
	}
	m.expiry.WithLabelValues(name).Set(float64(c.NotAfter.Unix()))
}

// ForgetCertificate notes that the certificate of a file isn't in use any more.
func (m *Metrics) ForgetCertificate(file string) { m.expiry.DeleteLabelValues(file) }

// ConfigApplied notes that a reload changed the configuration.
func (m *Metrics) ConfigApplied() { m.reloads.WithLabelValues("applied").Inc() }

// ConfigInUse notes that the newest configuration is in use, and since when.
func (m *Metrics) ConfigInUse(version string, since time.Time) {
	m.lastReload.Set(1)
	m.since.Set(float64(since.UnixNano()) / 1e9)
	m.version.Reset()
	m.version.WithLabelValues(version).Set(1)
}

// ConfigRejected notes that a newer configuration was rejected.
func (m *Metrics) ConfigRejected() {
	m.reloads.WithLabelValues("rejected").Inc()
	m.lastReload.Set(0)
}

// SetSources sets the sources of what is read at a scrape: the state of the bridge, and the
// number of dropped log lines.
func (m *Metrics) SetSources(snapshot func() bridge.Snapshot, droppedLines func() int64) {
	m.state.Store(&snapshot)
	m.dropped.Store(&droppedLines)
}

// An Exporter is something that exports by OTLP: [Traces], [MetricsExport] or [Lines].
type Exporter interface{ Exports() Exports }

// SetExporters sets the sources of the counts of exports. Without them, those have no series.
func (m *Metrics) SetExporters(all ...Exporter) { m.exporters.Store(&all) }

// traced reports whether calls have traces, and so the histograms exemplars.
func (m *Metrics) traced() bool {
	all := m.exporters.Load()
	return all != nil && slices.ContainsFunc(*all, func(e Exporter) bool { return e.Exports().Signal == signalTraces.name })
}

// statusName returns a status code as OpenTelemetry writes it. A backend may send any
// number.
func statusName(c codes.Code) string {
	if name, ok := code.Code_name[int32(c)]; ok {
		return name
	}
	return other
}

// errorType returns the status code if the server is to blame for it, else "".
// OpenTelemetry, "gRPC", server.
func errorType(c codes.Code) string {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return statusName(c)
	case codes.OK, codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.ResourceExhausted, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unauthenticated:
		return ""
	}
	return other
}
