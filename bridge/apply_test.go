package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

func apply(t testing.TB, s *Server, cfg Config, listeners ...Listener) {
	t.Helper()
	if err := s.Apply(cfg, listeners...); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

// TestThousandPoliciesUnderLoad: each call is judged by one policy and no mixture,
// and what calls count with is back at nothing after the last.
func TestThousandPoliciesUnderLoad(t *testing.T) {
	const swaps, callers = 1000, 4
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		for ss.RecvMsg(new([]byte)) == nil {
			if err := ss.SendMsg([]byte(strings.Join(md["x-a"], "") + strings.Join(md["x-b"], ""))); err != nil {
				return err
			}
		}
		return nil
	})
	// Each policy exposes one service, and removes one header.
	policies := []Config{
		{AllowMethods: []string{"test.A/*"}, VouchedHeaders: []string{"x-a"}},
		{AllowMethods: []string{"test.B/*"}, VouchedHeaders: []string{"x-b"}},
	}
	for i := range policies {
		policies[i].Backend = Backend{Target: backend}
		policies[i].MethodLimits = []MethodQuota{{Pattern: "test.*/*", Calls: callers + i}}
		policies[i].Limits.Calls = 2*callers - i
	}
	s := newServer(t, policies[0])
	cc := dial(t, serve(t, s))
	var passed atomic.Int64
	call := func(ctx context.Context, service string) error {
		var out []byte
		err := cc.Invoke(metadata.AppendToOutgoingContext(ctx, "x-a", "a", "x-b", "b"), "/test."+service+"/M", []byte{}, &out)
		left := map[string]string{"A": "b", "B": "a"}[service]
		switch {
		case err == nil && string(out) == left:
			passed.Add(1)
		case err == nil:
			t.Errorf("a call to %s reached the backend with the headers %q, want %q", service, out, left)
		case status.Code(err) != codes.Unimplemented:
			t.Errorf("a call to %s: %v", service, err)
		}
		return err
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}) // of each call
	var load sync.WaitGroup
	for i := range callers {
		load.Go(func() {
			for ctx.Err() == nil {
				_ = call(t.Context(), []string{"A", "B"}[i%2]) // it is judged above
				select {
				case ended <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	}
	for n := range swaps {
		<-ended
		apply(t, s, policies[(n+1)%2])
	}
	stop()
	load.Wait()
	if passed.Load() == 0 {
		t.Error("no call passed")
	}
	if err := s.registry.wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	for i, service := range []string{"A", "B"} {
		apply(t, s, policies[i])
		if err := call(within(t, patience), service); err != nil {
			t.Errorf("after the last swap, %s: %v", service, err)
		}
	}
	// As many as the method's limit may run: none is left over, none too few.
	policies[0].AllowMethods = nil
	apply(t, s, policies[0])
	for range callers {
		holdOpen(t, cc, "/test.A/M")
	}
	if err := unary(within(t, patience), cc, "/test.A/M"); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), report.KeyMethodLimits+"calls") {
		t.Errorf("a call too many: %v, want %s named", err, report.KeyMethodLimits+"calls")
	}
}

// holdOpen begins a call that ends with the test, and waits until it has an answer.
func holdOpen(t testing.TB, cc *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	stream := open(within(t, 2*patience), t, cc, method)
	if err := stream.SendMsg([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new([]byte)); err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestRunningCallsKeepTheirPolicy: a message that the new policy would refuse
// passes a stream that was open. The stream counts with the new limits.
func TestRunningCallsKeepTheirPolicy(t *testing.T) {
	backend := startBackend(t, echo)
	for key, limit := range map[string]func(c *Config, calls int){
		report.KeyCalls:                   func(c *Config, calls int) { c.Limits.Calls = calls },
		report.KeyAddressLimits + "calls": func(c *Config, calls int) { c.Limits.Address.Calls = calls },
		report.KeyMethodLimits + "calls":  func(c *Config, calls int) { c.MethodLimits = []MethodQuota{{Pattern: "*/*", Calls: calls}} },
	} {
		cfg := Config{Backend: Backend{Target: backend}}
		limit(&cfg, 2)
		s := newServer(t, cfg)
		cc := dial(t, serve(t, s))
		stream := holdOpen(t, cc, testMethod)
		limit(&cfg, 1)
		cfg.Limits.MessageBytes = 1 << 10
		apply(t, s, cfg)
		large := make([]byte, 2<<10)
		if err := stream.SendMsg(large); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Errorf("a large message of the stream that was open: %v", err)
		}
		if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), key) {
			t.Errorf("a second call, where one runs and one may: %v, want %s named", err, key)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Errorf("the stream ends with %v", err)
		}
		if err := s.registry.wait(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		if err := cc.Invoke(within(t, patience), testMethod, large, new([]byte)); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), report.KeyMessageBytes) {
			t.Errorf("a large message of a new call: %v", err)
		}
		if err := unary(within(t, patience), cc, testMethod); err != nil {
			t.Errorf("a small message of a new call: %v", err)
		}
	}
}

// TestNewLimitCountsWhatRuns: calls and connections that began when there was no limit
// count towards one that Apply sets.
func TestNewLimitCountsWhatRuns(t *testing.T) {
	const pattern = "test.Service/*"
	backend := startBackend(t, echo)
	for key, limit := range map[string]func(c *Config, l *Listener){
		report.KeyCalls:                   func(c *Config, _ *Listener) { c.Limits.Calls = 1 },
		report.KeyAddressLimits + "calls": func(c *Config, _ *Listener) { c.Limits.Address.Calls = 1 },
		report.KeyMethodLimits + "calls":  func(c *Config, _ *Listener) { c.MethodLimits = []MethodQuota{{Pattern: pattern, Calls: 1}} },

		report.KeyListenerLimits + "calls":       func(_ *Config, l *Listener) { l.Limits.Calls = 1 },
		report.KeyListenerLimits + "connections": func(_ *Config, l *Listener) { l.Limits.Connections = 1 },
		report.KeyAddressLimits + "connections":  func(c *Config, _ *Listener) { c.Limits.Address.Connections = 1 },
	} {
		obs := newObserver()
		cfg := Config{Backend: Backend{Target: backend}, Observer: obs, MethodLimits: []MethodQuota{{Pattern: pattern, CallsPerSecond: 1000}}}
		cfg.Limits.Address = Quota{Calls: -1, Connections: -1}
		l := Listener{Name: "a"}
		s := newServer(t, cfg)
		address := serveListener(t, s, listen(t, "127.0.0.1:0"), l)
		cc, other := dial(t, address), dial(t, address)
		holdOpen(t, cc, testMethod)
		holdOpen(t, other, testMethod)
		limit(&cfg, &l)
		apply(t, s, cfg, l)
		if strings.HasSuffix(key, "connections") {
			cc = dial(t, address)
		}
		if err := unary(within(t, patience), cc, testMethod); err == nil {
			t.Errorf("%s: a third begins where two run and one may", key)
			continue
		}
		if r := await(t, "the refusal", obs.refused); r.Key != key {
			t.Errorf("refused for %s, want %s", r.Key, key)
		}
	}
}

// TestCountsOfMethodsOutliveTheirPolicies: a limit that is removed and put back
// counts the calls that began before. Counts that nothing uses are forgotten.
func TestCountsOfMethodsOutliveTheirPolicies(t *testing.T) {
	with := Config{Backend: Backend{Target: startBackend(t, echo)}, MethodLimits: []MethodQuota{{Pattern: "/test.*/*", Calls: 1}}}
	without := Config{Backend: with.Backend, MethodLimits: []MethodQuota{{Pattern: "other.Service/*", Calls: 1}}}
	s := newServer(t, with)
	cc := dial(t, serve(t, s))
	stream := holdOpen(t, cc, testMethod)
	for swaps := range 3 {
		for range swaps + 1 {
			apply(t, s, without)
		}
		apply(t, s, with)
		if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), report.KeyMethodLimits+"calls") {
			t.Errorf("%d policies later, a second call where one may run: %v, want %s named", swaps+1, err, report.KeyMethodLimits+"calls")
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if err := s.registry.wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("a call when no other runs: %v", err)
	}
	if err := s.registry.wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		apply(t, s, without)
	}
	if got := slices.Collect(maps.Keys(s.methods)); !slices.Equal(got, []string{"other.Service/*"}) {
		t.Errorf("the patterns %q have counts, want the one that the policy names", got)
	}
}

// TestTunnelsTakeTheNewPolicy: a call inside a tunnel that is open is judged by the
// policy of when it begins, the tunnel's own protocol and header included. A call that
// runs goes on.
func TestTunnelsTakeTheNewPolicy(t *testing.T) {
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		for ss.RecvMsg(new([]byte)) == nil {
			if err := ss.SendMsg([]byte(strings.Join(md["x-user"], ", "))); err != nil {
				return err
			}
		}
		return nil
	})
	cfg := Config{Backend: Backend{Target: backend}}
	l := Listener{Name: "a", TrustedProxies: prefixes(t, "127.0.0.0/8")}
	s := newServer(t, cfg)
	cc := dialTunnel(t, serveListener(t, s, listen(t, "127.0.0.1:0"), l), http.Header{"X-User": {"outer"}})
	stream := holdOpen(t, cc, testMethod)
	call := func() (user string, err error) {
		var out []byte
		err = cc.Invoke(metadata.AppendToOutgoingContext(within(t, patience), "x-user", "inner"), testMethod, []byte{}, &out)
		return string(out), err
	}
	for _, c := range []struct {
		vouched    []string
		transports []string
		want       string // the x-user that the backend gets
		refused    string // by the name of the protocol
	}{
		{want: "inner"},
		{vouched: []string{"x-user"}, want: "outer"},
		{want: "inner"},
		{transports: []string{"grpc", "grpc-web"}, refused: tunnelName},
		{transports: []string{"grpc-web", tunnelName}, refused: "grpc"},
		{transports: []string{"grpc", tunnelName}, want: "inner"},
	} {
		cfg.VouchedHeaders, l.Transports = c.vouched, c.transports
		apply(t, s, cfg, l)
		got, err := call()
		switch {
		case c.refused == "" && (err != nil || got != c.want):
			t.Errorf("vouched %q, transports %q: x-user %q (%v), want %q", c.vouched, c.transports, got, err, c.want)
		case c.refused != "" && (status.Code(err) != codes.Unimplemented || reasonFor(err) != report.ReasonNoRoute ||
			!says(err.Error(), " "+c.refused+" … ("+report.KeyTransports)):
			t.Errorf("transports %q: %v, want %s to be refused by %s", c.transports, err, c.refused, report.KeyTransports)
		}
		if err := stream.SendMsg([]byte("still there?")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Fatalf("transports %q: the call that runs: %v", c.transports, err)
		}
	}
}

// TestApplyBoundsConnections: those that are open count, and stay. The next one is
// judged by the new limit.
func TestApplyBoundsConnections(t *testing.T) {
	for key, limit := range map[string]func(l *Limits, n int){
		report.KeyConnections:                   func(l *Limits, n int) { l.Connections = n },
		report.KeyAddressLimits + "connections": func(l *Limits, n int) { l.Address.Connections = n },
	} {
		cfg := Config{Backend: Backend{Target: startBackend(t, echo)}}
		limit(&cfg.Limits, 2)
		s := newServer(t, cfg)
		address := serve(t, s)
		stream := holdOpen(t, dial(t, address), testMethod)
		limit(&cfg.Limits, 1)
		apply(t, s, cfg)
		wantTooMany(t, address, "", key)
		if err := stream.SendMsg([]byte("still there?")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Errorf("%s: the connection that was open: %v", key, err)
		}
		limit(&cfg.Limits, 2)
		apply(t, s, cfg)
		if err := unary(within(t, patience), dial(t, address), testMethod); err != nil {
			t.Errorf("%s: with room for two: %v", key, err)
		}
	}
}

// TestApplyRefusesWhatIsWrong, and the policy stays as it was.
func TestApplyRefusesWhatIsWrong(t *testing.T) {
	cfg := Config{Backend: nowhere, DenyMethods: []string{"test.Denied/*"}}
	s := newServer(t, cfg)
	for name, change := range map[string]func(*Config){
		"an origin":                func(c *Config) { c.AllowOrigins = []string{"no origin"} },
		"a method":                 func(c *Config) { c.AllowMethods = []string{"nothing"} },
		"a limited method":         func(c *Config) { c.MethodLimits = []MethodQuota{{Pattern: "nothing"}} },
		"a prefix":                 func(c *Config) { c.PathPrefix = "grpc/" },
		"what needs a restart too": func(c *Config) { c.StandardHTTP2 = true },
	} {
		wrong := Config{Backend: nowhere}
		change(&wrong)
		before := s.policy.Load()
		if err := s.Apply(wrong); err == nil {
			t.Errorf("%s is taken", name)
		}
		if s.policy.Load() != before || s.MethodAllowed("/test.Denied/M") {
			t.Errorf("%s: the policy has changed", name)
		}
	}
	apply(t, s, Config{Backend: nowhere})
	if !s.MethodAllowed("/test.Denied/M") {
		t.Error("a method that is no longer denied is refused")
	}
}

// TestApplyChangesAListener and no other. Calls and connections that are open count
// with its new limits.
func TestApplyChangesAListener(t *testing.T) {
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		for ss.RecvMsg(new([]byte)) == nil {
			if err := ss.SendMsg([]byte(md.Get("x-forwarded-for")[0])); err != nil {
				return err
			}
		}
		return nil
	})
	cfg := Config{Backend: Backend{Target: backend}}
	s := newServer(t, cfg)
	a := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "a", Limits: Quota{Calls: 2, Connections: 2}})
	b := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "b"})
	toA, toB := dial(t, a), dial(t, b)
	stream := holdOpen(t, toA, testMethod)
	from := func(cc *grpc.ClientConn) (string, error) {
		var out []byte
		err := cc.Invoke(metadata.AppendToOutgoingContext(within(t, patience), "x-forwarded-for", "203.0.113.9"), testMethod, []byte{}, &out)
		return string(out), err
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	want := func(when, fromA, fromB string) {
		t.Helper()
		for name, c := range map[string]struct {
			cc   *grpc.ClientConn
			want string
		}{"a": {toA, fromA}, "b": {toB, fromB}} {
			if got, err := from(c.cc); err != nil || got != c.want {
				t.Errorf("%s, %s: the call is forwarded for %q (%v), want %q", when, name, got, err, c.want)
			}
		}
	}
	want("at first", "127.0.0.1", "127.0.0.1")
	apply(t, s, cfg, Listener{Name: "b"}, Listener{Name: "a", TrustedProxies: proxies, Limits: Quota{Calls: 2, Connections: 2}})
	want("with a trusted proxy", "203.0.113.9, 127.0.0.1", "127.0.0.1")
	apply(t, s, cfg)
	want("with other rules for no listener", "203.0.113.9, 127.0.0.1", "127.0.0.1")
	apply(t, s, cfg, Listener{Name: "b"}, Listener{Name: "a", Limits: Quota{Calls: 1, Connections: 1}})
	if _, err := from(toA); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), report.KeyListenerLimits+"calls") {
		t.Errorf("a second call, where one may run: %v", err)
	}
	wantTooMany(t, a, "", report.KeyListenerLimits+"connections")
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if err := s.registry.wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	want("without a trusted proxy", "127.0.0.1", "127.0.0.1")
	apply(t, s, cfg, Listener{Name: "b"}, Listener{Name: "a", Transports: []string{"grpc-web"}})
	if _, err := from(toA); status.Code(err) != codes.Unimplemented {
		t.Errorf("a native call, where gRPC-Web alone is taken: %v", err)
	}
	for what, listeners := range map[string][]Listener{
		"one is missing":      {{Name: "a"}},
		"one has a new name":  {{Name: "a"}, {Name: "c"}},
		"two have the name a": {{Name: "a"}, {Name: "a"}},
	} {
		var restart *RestartError
		if err := s.Apply(cfg, listeners...); !errors.As(err, &restart) || !slices.Equal(restart.Keys, []string{"listen"}) {
			t.Errorf("%s: got %v, want a RestartError of listen", what, err)
		}
	}
}

// How Apply treats a field of Config: it takes the change, refuses it, or doesn't
// look.
const (
	takes    = "takes"
	replaces = "replaces" // the upstream
	wrong    = "wrong"    // beside the other fields
	ignores  = "ignores"  // a program's own
)

// TestApplyBeforeServeListener: what Apply says of a listener counts from its
// beginning, once.
func TestApplyBeforeServeListener(t *testing.T) {
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}}
	s := newServer(t, cfg)
	a, b := Listener{Name: "a"}, Listener{Name: "b"}
	apply(t, s, cfg, a, b)
	a.Transports = []string{"grpc-web"}
	apply(t, s, cfg, a, b)
	toA := dial(t, serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "a"}))
	toB := dial(t, serveListener(t, s, listen(t, "127.0.0.1:0"), b))
	if err := unary(within(t, patience), toA, testMethod); status.Code(err) != codes.Unimplemented || reasonFor(err) != report.ReasonNoRoute {
		t.Errorf("a native call where only gRPC-Web is taken: %v", err)
	}
	if err := unary(within(t, patience), toB, testMethod); err != nil {
		t.Errorf("at the other listener: %v", err)
	}
	apply(t, s, cfg, Listener{Name: "a"}, b)
	if err := unary(within(t, patience), toA, testMethod); err != nil {
		t.Errorf("when all is taken again: %v", err)
	}
	if len(s.awaited) != 0 {
		t.Errorf("the rules of %d listeners are kept, which are all served", len(s.awaited))
	}
}

// TestServeListenerRefusesKeptRules that differ in what can't change: in this order,
// too, the change needs a restart.
func TestServeListenerRefusesKeptRules(t *testing.T) {
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}}
	for key, given := range map[string]Listener{
		"listen[].tls": {Name: "a", TLS: &tls.Config{MinVersion: tls.VersionTLS13}},
	} {
		s := newServer(t, cfg)
		apply(t, s, cfg, Listener{Name: "a", Transports: []string{"grpc-web"}})
		ln := listen(t, "127.0.0.1:0")
		served := make(chan error, 1)
		go func() { served <- s.ServeListener(ln, given) }() // ends with its error, else with the Server
		var restart *RestartError
		if err := await(t, "the end of ServeListener", served); !errors.As(err, &restart) || !slices.Equal(restart.Keys, []string{key}) {
			t.Errorf("ServeListener returned %v, want a RestartError of %q", err, key)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the listener isn't closed: %v", key, err)
		}
		apply(t, s, cfg, Listener{Name: "a", Transports: []string{"grpc-web"}}) // as if none was served
		cc := dial(t, serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "a"}))
		if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: a native call where only gRPC-Web is taken: %v", key, err)
		}
	}
}

// TestApplyForgetsListeners that have ended, once their connections have. Until then
// these keep their rules.
func TestApplyForgetsListeners(t *testing.T) {
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}}
	obs := newObserver()
	cfg.Observer = obs
	s := newServer(t, cfg)
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ServeListener(ln, Listener{Name: "a"}) }) // ends with ln
	t.Cleanup(serving.Wait)
	cc := dial(t, ln.Addr().String())
	holdOpen(t, cc, testMethod)
	apply(t, s, cfg, Listener{Name: "a", Transports: []string{"grpc-web"}})
	_ = ln.Close() // its error shows in the calls
	serving.Wait()
	for range 2 {
		apply(t, s, cfg)
		if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.Unimplemented {
			t.Errorf("a native call on the connection that is left: %v", err)
		}
	}
	_ = cc.Close() // it may be closed again
	await(t, "the connection's end", obs.conns)
	apply(t, s, cfg)
	if n := len(s.policy.Load().listenings); n != 1 {
		t.Errorf("the policy has rules of %d listeners, want those of Serve", n)
	}
}

var appliedFields = map[string]string{ // else the key that it refuses
	"Backend.Target":          replaces,
	"Backend.TLS":             replaces,
	"Backend.TLSSource":       replaces,
	"Backend.Authority":       replaces,
	"Backend.Keepalive":       replaces,
	"Backend.PingTimeout":     replaces,
	"Backend.PathPrefix":      replaces,
	"Backend.ConnectTimeout":  replaces,
	"Backend.Balance":         replaces,
	"Backend.MaxConnections":  replaces,
	"Backend.QueueTimeout":    replaces,
	"Backend.MaxWaiting":      replaces,
	"Backend.ResolveInterval": replaces,
	"Backend.UseEnvProxy":     replaces,
	"Backend.Logger":          ignores,
	"Backend.Descriptors":     replaces,
	"Backend.Dial":            ignores,
	"Backend.Waiting":         ignores,

	"Backend.HealthCheck.Enabled": replaces,
	"Backend.HealthCheck.Service": replaces,

	"Backends": wrong,

	"Logger":            ignores,
	"Words":             ignores,
	"Observer":          ignores,
	"CallEnded":         ignores,
	"Authenticator":     takes,
	"TryAuthenticator":  takes,
	"AuthCookies":       takes,
	"BearerSubprotocol": takes,
	"AllowOrigins":      takes,
	"TryOrigins":        takes,
	"Hosts":             takes,
	"LoopbackOnly":      takes,
	"AllowMethods":      takes,
	"DenyMethods":       takes,
	"TryMethods":        takes,
	"PassPath":          takes,
	"PathPrefix":        takes,
	"PassConnectJSON":   takes,
	"ConnectGet":        takes,
	"TrustedProxies":    takes,
	"VouchedHeaders":    takes,
	"CredentialHeaders": takes,
	"ForwardCookies":    takes,
	"ForwardSetCookies": takes,
	"ForwardClientCert": takes,
	"DetailedErrors":    takes,
	"MethodLimits":      takes,
	"Routes":            takes,
	"TryLimits":         takes,
	"Memory":            takes,
	"DrainSpread":       takes,
	"StandardHTTP2":     "http2_server",
	"Doctor":            takes,
	"Version":           ignores,
	"Fallback":          ignores,
	"FallbackURL":       takes,

	"Limits.MessageBytes":                  takes,
	"Limits.HeaderBytes":                   replaces,
	"Limits.BufferedBytes":                 takes,
	"Limits.CallsPerConnection":            takes,
	"Limits.Connections":                   takes,
	"Limits.Calls":                         takes,
	"Limits.CallsPerSecond":                takes,
	"Limits.HandshakesPerSecond":           takes,
	"Limits.SlowConsumerTimeout":           takes,
	"Limits.IdleTimeout":                   takes,
	"Limits.MaxAge":                        takes,
	"Limits.SlowSenderTimeout":             takes,
	"Limits.ConnectionIdleTimeout":         takes,
	"Limits.ConnectionMaxAge":              takes,
	"Limits.DecompressedPerSecond":         takes,
	"Limits.WebRequests":                   takes,
	"Limits.Address.Connections":           takes,
	"Limits.Address.Calls":                 takes,
	"Limits.Address.CallsPerSecond":        takes,
	"Limits.Address.HandshakesPerSecond":   takes,
	"Limits.Address.DecompressedPerSecond": takes,
	"Limits.Address.WebRequests":           takes,

	"Limits.Identity.Connections":           takes, // and has no effect, as the three below
	"Limits.Identity.HandshakesPerSecond":   takes,
	"Limits.Identity.DecompressedPerSecond": takes,
	"Limits.Identity.WebRequests":           takes,
	"Limits.Identity.Calls":                 takes,
	"Limits.Identity.CallsPerSecond":        takes,
}

var appliedListenerFields = map[string]string{
	"Name":               "listen",
	"TLS":                "listen[0].tls",
	"SamePolicy":         ignores,
	"TrustedProxies":     takes,
	"Forwarded":          takes,
	"ProxyProtocol":      takes,
	"LoopbackOnly":       takes,
	"Serves":             ignores,
	"Transports":         takes,
	"MessageBytes":       takes,
	"HeaderBytes":        takes,
	"CallsPerConnection": takes,

	"Limits.Connections":           takes,
	"Limits.Calls":                 takes,
	"Limits.CallsPerSecond":        takes,
	"Limits.HandshakesPerSecond":   takes,
	"Limits.DecompressedPerSecond": takes,
	"Limits.WebRequests":           takes,
}

// values are what a field is changed to, by its type.
var values = []any{
	"/changed", true, 7, int64(7), time.Duration(7),
	[]string{"a.B/*"},
	[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	[]MethodQuota{{Pattern: "a.B/*"}},
	[]NamedBackend{{Name: "a", Backend: nowhere}},
	[]Route{{Name: "all", Backend: DefaultBackend}},
	&tls.Config{MinVersion: tls.VersionTLS13}, &aTLSSource{}, func() {}, func() bool { return false }, func(*report.CallInfo) {},
	func(context.Context, string) (net.Conn, error) { return nil, errors.New("nowhere") },
	func(string) bool { return false }, func(string, net.Addr, string) bool { return false },
	slog.New(slog.DiscardHandler), &aDescriptorSource{}, report.Discard(), report.Words(rules.InFile), authenticator(byToken), http.Handler(http.NotFoundHandler()),
}

type aDescriptorSource struct{ _ int }

func (*aDescriptorSource) Descriptors() report.Descriptors { return nil }

// leaves calls f for each field below v that isn't a struct of settings itself.
func leaves(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	for i := range v.NumField() {
		field, name := v.Field(i), strings.TrimPrefix(path+"."+v.Type().Field(i).Name, ".")
		if field.Kind() == reflect.Struct {
			leaves(field, name, f)
			continue
		}
		f(name, field)
	}
}

// TestApplyKnowsEachField of Config and Listener: a new one must be in the tables
// above. Another *tls.Config is a change, though it says the same.
func TestApplyKnowsEachField(t *testing.T) {
	i := slices.IndexFunc(values, func(v any) bool { _, ok := v.(*tls.Config); return ok })
	asNow := values[i].(*tls.Config).Clone()
	unchanged := func() (Config, Listener) {
		return Config{Backend: Backend{Target: nowhere.Target, Dial: nowhere.Dial, Waiting: func() {}, TLS: asNow}}, Listener{Name: "a", TLS: asNow}
	}
	cfg, listener := unchanged()
	s := newServer(t, cfg)
	exchange(t, serveListener(t, s, listen(t, "127.0.0.1:0"), listener), "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n") // it is served now
	for _, c := range []struct {
		of    any
		table map[string]string
	}{{&cfg, appliedFields}, {&listener, appliedListenerFields}} {
		var known []string
		leaves(reflect.ValueOf(c.of).Elem(), "", func(path string, field reflect.Value) {
			known = append(known, path)
			change(t, path, field)
			before, old := s.policy.Load(), upstreamOf(t, s)
			err := s.Apply(cfg, listener)
			var restart *RestartError
			want := c.table[path]
			if got := upstreamOf(t, s) != old; got != (want == replaces) {
				t.Errorf("%s: Apply replaces the upstream: %v, want %v", path, got, want == replaces)
			}
			switch want {
			case wrong:
				if err == nil || errors.As(err, &restart) {
					t.Errorf("%s: got %v, want an error of another kind than RestartError", path, err)
				}
			case replaces:
				if err != nil {
					t.Errorf("%s: %v", path, err)
				}
			case takes, ignores:
				if err != nil {
					t.Errorf("%s: %v", path, err)
				}
				if same := reflect.DeepEqual(s.policy.Load().settings(), before.settings()); same != (want == ignores) {
					t.Errorf("%s: Apply changes nothing: %v, want %v", path, same, want == ignores)
				}
			default:
				if !errors.As(err, &restart) || !slices.Equal(restart.Keys, []string{want}) || !strings.Contains(err.Error(), "restart") {
					t.Errorf("%s: got %v, want a RestartError of %q", path, err, want)
				}
			}
			cfg, listener = unchanged()
			apply(t, s, cfg, listener)
		})
		for path := range c.table {
			if !slices.Contains(known, path) {
				t.Errorf("%s is no field of %T", path, c.of)
			}
		}
	}
}

type aTLSSource struct{ config tls.Config }

func (s *aTLSSource) Config() *tls.Config { return &s.config }

// upstreamOf returns the upstream that new calls go to.
func upstreamOf(t testing.TB, s *Server) *upstream.Upstream {
	t.Helper()
	u, err := s.upstreams.Acquire(DefaultBackend, 0)
	if err != nil {
		t.Fatal(err)
	}
	u.Release()
	return u
}

// change gives a field another value.
func change(t *testing.T, path string, field reflect.Value) {
	t.Helper()
	i := slices.IndexFunc(values, func(v any) bool { return reflect.TypeOf(v).AssignableTo(field.Type()) })
	switch {
	case i < 0:
		t.Errorf("%s: no value of the type %v", path, field.Type())
	case path == "Backend.Balance":
		field.SetString("pick_first")
	case path == "FallbackURL":
		field.SetString("http://127.0.0.1:1")
	case path == "AllowOrigins":
		field.Set(reflect.ValueOf([]string{"https://app.example.com"}))
	default:
		field.Set(reflect.ValueOf(values[i]))
	}
}

// settings returns the policy's values without what is made anew for each.
func (p *policy) settings() any {
	s := *p
	tryOut := reflect.ValueOf(p.quotas).Elem().FieldByName("tryOut").Bool()
	s.quotas, s.users, s.router.refusals, s.router.upstreams = nil, nil, nil, nil
	s.fallback = nil // its address tells
	var methods []string
	for _, m := range p.methods {
		methods = append(methods, m.patterns...)
	}
	s.methods = nil
	var listeners []Listener
	for _, l := range p.listenings {
		listeners = append(listeners, l.Listener)
	}
	slices.SortFunc(listeners, func(a, b Listener) int { return strings.Compare(a.Name, b.Name) })
	s.listenings = nil
	return []any{s, methods, tryOut, listeners}
}
