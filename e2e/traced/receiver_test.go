package traced

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// A receiver is the collector's, and what it has received.
type receiver struct {
	grpc, http string // URLs

	mu    sync.Mutex
	spans []span
	more  chan struct{} // closed and replaced with each request

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
	next, err := consumer.NewTraces(r.take)
	if err != nil {
		t.Fatal(err)
	}
	server, err := f.CreateTraces(context.Background(), receivertest.NewNopSettings(f.Type()), cfg, next)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // that is the purpose
	return l.Addr().String()
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
