package traced

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// A receiver is the collector's, and what it has received.
type receiver struct {
	grpc, http string // URLs

	mu      sync.Mutex
	spans   []span
	metrics [][]pmetric.Metric // by request
	records []plog.LogRecord
	more    chan struct{} // closed and replaced with each request

	takes func(ctx context.Context) error // before it takes a request
}

// A span is one as the collector has it.
type span struct {
	ptrace.Span
	service string
}

func (s span) attribute(name string) string {
	if v, ok := s.Attributes().Get(name); ok {
		return v.AsString()
	}
	return ""
}

// events returns the names of the events, with what they waited for.
func (s span) events() (names []string) {
	for _, e := range s.Events().All() {
		name := e.Name()
		if of, ok := e.Attributes().Get("culvert.for"); ok {
			name += " " + of.AsString()
		}
		names = append(names, name)
	}
	return names
}

// startReceiver starts a receiver. takes may delay or refuse requests; nil: it does neither.
func startReceiver(t *testing.T, takes func(ctx context.Context) error) *receiver {
	t.Helper()
	return startReceiverWith(t, takes, "http", nil)
}

// startSecureReceiver starts a receiver with TLS. It takes requests only from clients with a
// certificate by the same CA, which is the certificate in the files itself.
func startSecureReceiver(t *testing.T, cert, key string) *receiver {
	t.Helper()
	return startReceiverWith(t, nil, "https", &configtls.ServerConfig{ClientCAFile: cert, Config: configtls.Config{CertFile: cert, KeyFile: key}})
}

func startReceiverWith(t *testing.T, takes func(ctx context.Context) error, scheme string, secured *configtls.ServerConfig) *receiver {
	t.Helper()
	r := &receiver{more: make(chan struct{}), takes: takes}
	f := otlpreceiver.NewFactory()
	cfg := f.CreateDefaultConfig().(*otlpreceiver.Config)
	gp := cfg.Protocols.GRPC.GetOrInsertDefault()
	hp := cfg.Protocols.HTTP.GetOrInsertDefault()
	gp.NetAddr.Endpoint, hp.ServerConfig.NetAddr.Endpoint = freeAddress(t), freeAddress(t)
	r.grpc, r.http = scheme+"://"+gp.NetAddr.Endpoint, scheme+"://"+hp.ServerConfig.NetAddr.Endpoint
	if secured != nil {
		gp.TLS, hp.ServerConfig.TLS = configoptional.Some(*secured), configoptional.Some(*secured)
	}
	ctx, settings := context.Background(), receivertest.NewNopSettings(f.Type())
	traces, err := consumer.NewTraces(r.take)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := consumer.NewMetrics(r.takeMetrics)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := consumer.NewLogs(r.takeLogs)
	if err != nil {
		t.Fatal(err)
	}
	first, err := f.CreateTraces(ctx, settings, cfg, traces)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.CreateMetrics(ctx, settings, cfg, metrics)
	if err != nil {
		t.Fatal(err)
	}
	third, err := f.CreateLogs(ctx, settings, cfg, logs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range r.logs() {
			if strings.HasPrefix(l.Body().Str(), exportFailed) {
				t.Error("the receiver has a line about an export that failed")
			}
		}
	})
	for _, c := range []component.Component{first, second, third} { // one receiver, which starts with the first
		if err := c.Start(ctx, componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := c.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return r
}

// at returns the URL for a protocol.
func (r *receiver) at(protocol string) string {
	if protocol == "grpc" {
		return r.grpc
	}
	return r.http
}

// lastPort is the last port that freeAddress has looked at.
var lastPort atomic.Int32

// freeAddress returns an address that nobody listens on, and which no other test gets. Its port
// is below those that the kernel gives to others meanwhile (ip_local_port_range).
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+lastPort.Add(1)))
		if err == nil {
			_ = l.Close() // nothing was accepted
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (r *receiver) take(ctx context.Context, td ptrace.Traces) error {
	if r.takes != nil {
		if err := r.takes(ctx); err != nil {
			return err
		}
	}
	kept := ptrace.NewTraces() // the collector may use td again
	td.CopyTo(kept)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range kept.ResourceSpans().All() {
		service, ok := rs.Resource().Attributes().Get("service.name")
		if !ok {
			return errors.New("a resource without a service")
		}
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				r.spans = append(r.spans, span{s, service.AsString()})
			}
		}
	}
	close(r.more)
	r.more = make(chan struct{})
	return nil
}

func (r *receiver) takeMetrics(ctx context.Context, md pmetric.Metrics) error {
	if r.takes != nil {
		if err := r.takes(ctx); err != nil {
			return err
		}
	}
	kept := pmetric.NewMetrics()
	md.CopyTo(kept)
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []pmetric.Metric
	for _, rm := range kept.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				all = append(all, m)
			}
		}
	}
	r.metrics = append(r.metrics, all)
	close(r.more)
	r.more = make(chan struct{})
	return nil
}

func (r *receiver) takeLogs(ctx context.Context, ld plog.Logs) error {
	kept := plog.NewLogs()
	ld.CopyTo(kept)
	r.mu.Lock()
	for _, rl := range kept.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, l := range sl.LogRecords().All() {
				r.records = append(r.records, l)
			}
		}
	}
	r.mu.Unlock()
	if r.takes != nil {
		return r.takes(ctx)
	}
	return nil
}

// logs returns the records that have come, taken or not.
func (r *receiver) logs() []plog.LogRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

// exports returns how many requests with metrics have come.
func (r *receiver) exports() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.metrics)
}

// export waits for the n-th request with metrics.
func (r *receiver) export(t *testing.T, n int) []pmetric.Metric {
	t.Helper()
	late := time.After(patience)
	for {
		r.mu.Lock()
		all, more := r.metrics, r.more
		r.mu.Unlock()
		if len(all) >= n {
			return all[n-1]
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%d exports of metrics came, want %d", len(all), n)
		}
	}
}

// find waits for the span that is wanted.
func (r *receiver) find(t *testing.T, what string, wanted func(span) bool) span {
	t.Helper()
	late := time.After(patience)
	for {
		r.mu.Lock()
		all, more := r.spans, r.more
		r.mu.Unlock()
		for _, s := range all {
			if wanted(s) {
				return s
			}
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("no span %s came, only %d others", what, len(all))
		}
	}
}

var errRefused = errors.New("no room")
