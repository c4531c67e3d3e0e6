package wiring

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// A key that nobody passes on would be read, checked and without effect.
func TestEveryKeyReachesTheBridge(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	reached := map[string]struct {
		set  any
		read func(bridge.Config) any
		want any
	}{
		"backend.address":              {"orders:9000", func(c bridge.Config) any { return c.Backends[0].Target }, "orders:9000"},
		"backend.authority":            {"a.example", func(c bridge.Config) any { return c.Backends[0].Authority }, "a.example"},
		"backend.keepalive":            {"10m", func(c bridge.Config) any { return c.Backends[0].Keepalive }, 10 * time.Minute},
		"backend.balance":              {"pick_first", func(c bridge.Config) any { return c.Backends[0].Balance }, "pick_first"},
		"backend.health_check.enabled": {"true", func(c bridge.Config) any { return c.Backends[0].HealthCheck.Enabled }, true},
		"backend.health_check.service": {"a.B", func(c bridge.Config) any { return c.Backends[0].HealthCheck.Service }, "a.B"},
		"backend.limits.waiting_calls": {"3", func(c bridge.Config) any { return c.Backends[0].MaxWaiting }, 3},
		"backend.limits.calls":         {"3", func(c bridge.Config) any { return c.Backends[0].MaxCalls }, 3},
		"backend.max_connections":      {"3", func(c bridge.Config) any { return c.Backends[0].MaxConnections }, 3},
		"backend.queue_timeout":        {"1m", func(c bridge.Config) any { return c.Backends[0].QueueTimeout }, time.Minute},
		"backend.resolve_interval":     {"10s", func(c bridge.Config) any { return c.Backends[0].ResolveInterval }, 10 * time.Second},
		"backend.use_proxy":            {"true", func(c bridge.Config) any { return c.Backends[0].UseEnvProxy }, true},
		"allow_origins":                {[]string{"https://a.example"}, func(c bridge.Config) any { return c.AllowOrigins }, []string{"https://a.example"}},
		"auth.enforce":                 {"false", func(c bridge.Config) any { return c.TryAuthenticator }, true},
		"enforce_origins":              {"false", func(c bridge.Config) any { return c.TryOrigins }, true},
		"methods.enforce":              {"false", func(c bridge.Config) any { return c.TryMethods }, true},
		"hosts":                        {[]string{"a.example"}, func(c bridge.Config) any { return c.Hosts }, []string{"a.example"}},
		"path_prefix":                  {"/grpc", func(c bridge.Config) any { return c.PathPrefix }, "/grpc"},
		"connect.json":                 {"pass", func(c bridge.Config) any { return c.PassConnectJSON }, true},
		"connect.get":                  {[]string{"a.B/Get*"}, func(c bridge.Config) any { return c.ConnectGet }, []string{"a.B/Get*"}},
		"methods.allow":                {[]string{"a.B/*"}, func(c bridge.Config) any { return c.AllowMethods }, []string{"a.B/*"}},
		"methods.deny":                 {[]string{"a.B/*"}, func(c bridge.Config) any { return c.DenyMethods }, []string{"a.B/*"}},
		"metadata.forward_cookies":     {"true", func(c bridge.Config) any { return c.ForwardCookies }, true},
		"metadata.client_certificate":  {"true", func(c bridge.Config) any { return c.ForwardClientCert }, true},
		"metadata.vouched":             {[]string{"x-user"}, func(c bridge.Config) any { return c.VouchedHeaders }, []string{"x-user"}},
		"metadata.forward_set_cookies": {"true", func(c bridge.Config) any { return c.ForwardSetCookies }, true},
		"http2_server":                 {"standard", func(c bridge.Config) any { return c.StandardHTTP2 }, true},
		"doctor":                       {"true", func(c bridge.Config) any { return c.Doctor }, true},
		"errors":                       {"detailed", func(c bridge.Config) any { return c.DetailedErrors }, true},
		"limits.message_bytes":         {"1MiB", func(c bridge.Config) any { return c.Limits.MessageBytes }, 1 << 20},
		"limits.header_bytes":          {"1KiB", func(c bridge.Config) any { return c.Limits.HeaderBytes }, 1 << 10},
		"limits.buffered_bytes":        {"1GiB", func(c bridge.Config) any { return c.Limits.BufferedBytes }, int64(1 << 30)},
		"limits.calls_per_connection":  {"7", func(c bridge.Config) any { return c.Limits.CallsPerConnection }, 7},
		"limits.connections":           {"7", func(c bridge.Config) any { return c.Limits.Connections }, 7},
		"fallback":                     {"http://localhost:3000", func(c bridge.Config) any { return c.FallbackURL }, "http://localhost:3000"},
		"limits.fallback_requests":     {"7", func(c bridge.Config) any { return c.Limits.WebRequests }, 7},
		"limits.calls":                 {"7", func(c bridge.Config) any { return c.Limits.Calls }, 7},
		"limits.handshakes_per_second": {"7", func(c bridge.Config) any { return c.Limits.HandshakesPerSecond }, 7},
		"limits.slow_consumer_timeout": {"7s", func(c bridge.Config) any { return c.Limits.SlowConsumerTimeout }, 7 * time.Second},
		"limits.idle_timeout":          {"7s", func(c bridge.Config) any { return c.Limits.IdleTimeout }, 7 * time.Second},
		"limits.max_age":               {"7s", func(c bridge.Config) any { return c.Limits.MaxAge }, 7 * time.Second},

		"limits.slow_sender_timeout":     {"7s", func(c bridge.Config) any { return c.Limits.SlowSenderTimeout }, 7 * time.Second},
		"limits.connection_idle_timeout": {"7s", func(c bridge.Config) any { return c.Limits.ConnectionIdleTimeout }, 7 * time.Second},
		"limits.connection_max_age":      {"7s", func(c bridge.Config) any { return c.Limits.ConnectionMaxAge }, 7 * time.Second},

		"limits.calls_per_second":                      {"7", func(c bridge.Config) any { return c.Limits.CallsPerSecond }, 7},
		"limits.decompressed_bytes_per_second":         {"7MiB", func(c bridge.Config) any { return c.Limits.DecompressedPerSecond }, 7 << 20},
		"limits.address.connections":                   {"7", func(c bridge.Config) any { return c.Limits.Address.Connections }, 7},
		"limits.address.fallback_requests":             {"7", func(c bridge.Config) any { return c.Limits.Address.WebRequests }, 7},
		"limits.address.calls":                         {"7", func(c bridge.Config) any { return c.Limits.Address.Calls }, 7},
		"limits.address.calls_per_second":              {"7", func(c bridge.Config) any { return c.Limits.Address.CallsPerSecond }, 7},
		"limits.address.handshakes_per_second":         {"7", func(c bridge.Config) any { return c.Limits.Address.HandshakesPerSecond }, 7},
		"limits.address.decompressed_bytes_per_second": {"0", func(c bridge.Config) any { return c.Limits.Address.DecompressedPerSecond }, -1},
		"drain_spread":                                 {"7s", func(c bridge.Config) any { return c.DrainSpread }, 7 * time.Second},
		"limits.identity.calls":                        {"7", func(c bridge.Config) any { return c.Limits.Identity.Calls }, 7},
		"limits.identity.calls_per_second":             {"7", func(c bridge.Config) any { return c.Limits.Identity.CallsPerSecond }, 7},
		"limits.enforce":                               {"false", func(c bridge.Config) any { return c.TryLimits }, true},
	}
	atListener := map[string]struct {
		set  any
		read func(bridge.Listener) any
		want any
	}{
		"trusted_proxies": {[]string{"10.0.0.0/8"}, func(l bridge.Listener) any { return l.TrustedProxies }, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"trusted_header":  {"forwarded", func(l bridge.Listener) any { return l.Forwarded }, true},
		"proxy_protocol":  {[]string{"10.0.0.0/8"}, func(l bridge.Listener) any { return l.ProxyProtocol }, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	}
	// tls.txtar has the files, serve.txtar and others what serve itself does.
	elsewhere := map[string]bool{
		"tls.cert": true, "tls.certificates": true, "tls.key": true, "tls.client_ca": true, "tls.client_auth": true, "tls.crls": true, "tls.min_version": true,
		"tls.self_signed": true, "tls.self_signed_names": true, "tls.http_listen": true, "tls.http_target": true, "backend.tls.enabled": true, "backend.tls.server_name": true,
		"backend.tls.ca": true, "backend.tls.cert": true, "backend.tls.key": true,
		"backend.descriptors": true, // descriptors_test.go
		"limits.memory":       true, // memory_test.go
		"drain_timeout":       true, "health.listen": true, "health.depends_on": true, "admin.listen": true, "admin.hosts": true, "admin.token": true, "admin.tls.cert": true, "admin.tls.key": true, "log.level": true, "log.format": true,
		"health.metrics": true, // metrics_test.go
		"log.sample":     true, // TestEntriesOfLogSampleArrive
		"log.fields":     true, // TestFieldsOfLogArrive
		"log.begin":      true, // serve/observers.go
	}
	defaults, err := config.Load(config.Options{}, "", map[string]any{"backend.address": "localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	running, err := bridge.New(Bridge(defaults))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = running.Close() }() // it has no calls
	for _, k := range config.Keys() {
		// Below, auth_test.go, limits_test.go, routes_test.go, otlp_test.go, TestEntriesOfBackendsReachTheBridge, TestEveryKeyOfACMEArrives
		if k.Name == "listen" || k.Name == "limits.methods" || k.Name == "routes" || k.Name == "backends" || strings.HasPrefix(k.Name, "tls.acme.") || strings.HasPrefix(k.Name, "traces.") || strings.HasPrefix(k.Name, "otlp.") ||
			strings.HasPrefix(k.Name, "auth.") && k.Name != "auth.enforce" {
			continue
		}
		c, ok := reached[k.Name]
		l, listens := atListener[k.Name]
		if ok == (elsewhere[k.Name] || listens) {
			t.Errorf("%s is not looked at here, or twice", k.Name)
		}
		if listens {
			loaded, err := config.Load(config.Options{}, "", map[string]any{k.Name: l.set})
			if err != nil {
				t.Errorf("%s: %v", k.Name, err)
			} else if got := l.read(Listener(loaded, 0)); !reflect.DeepEqual(got, l.want) {
				t.Errorf("%s: %v arrives as %v, want %v", k.Name, l.set, got, l.want)
			}
		}
		if !ok {
			continue
		}
		loaded, err := config.Load(config.Options{}, "", map[string]any{k.Name: c.set})
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
			continue
		}
		got := Bridge(loaded)
		if !reflect.DeepEqual(c.read(got), c.want) {
			t.Errorf("%s: %v arrives as %v, want %v", k.Name, c.set, c.read(got), c.want)
		}
		// The bridge must agree with config about keys that need a restart.
		if got.Backends[0].Target == "" {
			got.Backends[0].Target = "localhost:1"
		}
		var restart *bridge.RestartError
		if err := running.Apply(got); errors.As(err, &restart) != config.NeedsRestart(k.Name) {
			t.Errorf("%s: Apply says %v, and its tag restart says %v", k.Name, err, config.NeedsRestart(k.Name))
		}
	}
}

// TestEntriesOfBackendsReachTheBridge: an entry arrives as the section backend with the
// same keys does, under its own name.
func TestEntriesOfBackendsReachTheBridge(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	const keys = "{%s address: orders:9000, authority: a.example, keepalive: 10m, balance: pick_first, max_connections: 0, queue_timeout: 1m, resolve_interval: 10s, use_proxy: true}"
	one := backends(cmdtest.Load(t, "backend: "+fmt.Sprintf(keys, "")))
	several := backends(cmdtest.Load(t, "backends: ["+fmt.Sprintf(keys, "name: orders,")+", {name: default, address: users:9000}]"))
	if len(one) != 1 || len(several) != 2 || one[0].Name != bridge.DefaultBackend || several[0].Name != "orders" || several[1].Name != "default" {
		t.Fatalf("got %+v and %+v", one, several)
	}
	if !reflect.DeepEqual(several[0].Backend, one[0].Backend) {
		t.Errorf("the entry arrives as %+v, the section as %+v", several[0].Backend, one[0].Backend)
	}
	if got, want := several[1].Backend, backends(cmdtest.Load(t, "backend: {address: users:9000}"))[0].Backend; !reflect.DeepEqual(got, want) {
		t.Errorf("an entry without other keys arrives as %+v, the section as %+v", got, want)
	}
}

func TestEveryKeyOfAListenerReachesTheBridge(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	reached := map[string]struct {
		yaml string // of one entry, beside its address
		read func(bridge.Listener) any
		want any
	}{
		"listen[].name":            {"name: public", func(l bridge.Listener) any { return l.Name }, "public"},
		"listen[].transports":      {"transports: [grpc, h2ts]", func(l bridge.Listener) any { return l.Transports }, []string{"grpc", "h2ts"}},
		"listen[].trusted_header":  {"trusted_header: forwarded", func(l bridge.Listener) any { return l.Forwarded }, true},
		"listen[].proxy_protocol":  {"proxy_protocol: [10.0.0.0/8]", func(l bridge.Listener) any { return l.ProxyProtocol }, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"listen[].trusted_proxies": {"trusted_proxies: [10.0.0.0/8]", func(l bridge.Listener) any { return l.TrustedProxies }, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},

		"listen[].limits.connections":                   {"limits: {connections: 7}", func(l bridge.Listener) any { return l.Limits.Connections }, 7},
		"listen[].limits.calls":                         {"limits: {calls: 7}", func(l bridge.Listener) any { return l.Limits.Calls }, 7},
		"listen[].limits.calls_per_second":              {"limits: {calls_per_second: 7}", func(l bridge.Listener) any { return l.Limits.CallsPerSecond }, 7},
		"listen[].limits.message_bytes":                 {"limits: {message_bytes: 7KiB}", func(l bridge.Listener) any { return l.MessageBytes }, 7 << 10},
		"listen[].limits.header_bytes":                  {"limits: {header_bytes: 7KiB}", func(l bridge.Listener) any { return l.HeaderBytes }, 7 << 10},
		"listen[].limits.calls_per_connection":          {"limits: {calls_per_connection: 7}", func(l bridge.Listener) any { return l.CallsPerConnection }, 7},
		"listen[].limits.decompressed_bytes_per_second": {"limits: {decompressed_bytes_per_second: 7KiB}", func(l bridge.Listener) any { return l.Limits.DecompressedPerSecond }, 7 << 10},
		"listen[].limits.handshakes_per_second":         {"limits: {handshakes_per_second: 7}", func(l bridge.Listener) any { return l.Limits.HandshakesPerSecond }, 7},
	}
	elsewhere := map[string]bool{
		"listen[].address": true, // serve.txtar
		"listen[].mode":    true, // TestSocketsAreAsPrivateAsTheirMode
		// TestListenersTLS
		"listen[].tls.enabled": true, "listen[].tls.cert": true, "listen[].tls.key": true, "listen[].tls.certificates": true, "listen[].tls.client_ca": true,
		"listen[].tls.client_auth": true, "listen[].tls.crls": true, "listen[].tls.min_version": true, "listen[].tls.self_signed": true,
	}
	for _, k := range config.Keys() {
		if k.Name != "listen" {
			continue
		}
		for _, k := range k.Entries() {
			c, ok := reached[k.Name]
			if ok == elsewhere[k.Name] {
				t.Errorf("%s is not looked at here, or twice", k.Name)
			}
			if !ok {
				continue
			}
			file := filepath.Join(t.TempDir(), "proxy.yaml")
			if err := os.WriteFile(file, []byte("listen:\n- address: :8080\n  "+c.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			loaded, err := config.Load(config.Options{}, file, nil)
			if err != nil {
				t.Errorf("%s: %v", k.Name, err)
				continue
			}
			if got := c.read(Listener(loaded, 0)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: %s arrives as %v, want %v", k.Name, c.yaml, got, c.want)
			}
		}
	}
}

// File and bridge have the same defaults, in fields of their own; 0 in the file and
// what is negative in the bridge mean "no limit".
func TestDefaultsAreThoseOfTheBridge(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	loaded, err := config.Load(config.Options{}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := Bridge(loaded)
	if all, one := c.Limits.DecompressedPerSecond, c.Limits.Address.DecompressedPerSecond; all != 0 || one != 0 {
		t.Errorf("%d and %d decompressed bytes a second, want 0: the bridge counts CPUs", all, one)
	}
	address := bridge.DefaultLimits().Address
	address.DecompressedPerSecond = 0
	if got, want := c.Limits.Address, address; got != want {
		t.Errorf("the limits of an address are %+v, the bridge's default %+v", got, want)
	}
	got, want := reflect.ValueOf(c.Limits), reflect.ValueOf(bridge.DefaultLimits())
	for i := range got.NumField() {
		name := got.Type().Field(i).Name
		if !got.Field(i).CanInt() {
			continue
		}
		switch value := got.Field(i).Int(); {
		case name == "Connections" && value != 0:
			t.Errorf("Connections is %d, want 0: the bridge counts descriptors", value)
		case value > 0 && value != want.Field(i).Int():
			t.Errorf("%s is %d, the bridge's default %v", name, value, want.Field(i))
		}
	}
	for name, value := range map[string]int64{
		"Calls": int64(c.Limits.Calls), "HandshakesPerSecond": int64(c.Limits.HandshakesPerSecond),
		"IdleTimeout": int64(c.Limits.IdleTimeout), "MaxAge": int64(c.Limits.MaxAge),
		"ConnectionMaxAge": int64(c.Limits.ConnectionMaxAge),
	} {
		if value >= 0 {
			t.Errorf("%s is %d, want negative: no limit", name, value)
		}
	}
	if c.Backends[0].TLS != nil {
		t.Errorf("TLS is on by default")
	}
}

func TestEntriesOfLogSampleArrive(t *testing.T) {
	loaded := cmdtest.Load(t, "log:\n  sample:\n  - {pattern: a.B/*, one_in: 10}\n  - {pattern: a.*/C, one_in: 1}\n")
	want := []telemetry.Sample{{Pattern: "a.B/*", OneIn: 10}, {Pattern: "a.*/C", OneIn: 1}}
	if got := Samples(loaded.Log); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFieldsOfLogArrive(t *testing.T) {
	loaded := cmdtest.Load(t, "log: {fields: [host, metadata.x-tenant]}\n")
	want, err := telemetry.ParseFields([]string{"host", "metadata.x-tenant"})
	if got := LogFields(loaded.Log); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v, %v", got, want, err)
	}
}

// TestMeasuredRoutes: each route with the backends that its calls can have, and one for
// calls without a route.
func TestMeasuredRoutes(t *testing.T) {
	const backends = "backends: [{name: a, address: \"a:1\"}, {name: b, address: \"b:1\"}]\n"
	for name, c := range map[string]struct {
		file string
		want []telemetry.Route
	}{
		"one backend":      {"backend: {address: \"a:1\"}\n", []telemetry.Route{{Backends: []string{"default"}}}},
		"several backends": {strings.Replace(backends, "name: a", "name: default", 1), []telemetry.Route{{Backends: []string{"default", "b"}}}},
		"routes": {
			backends + "routes: [{name: one, backend: a}, {name: two, match: {path_prefix: /two}, split: [{backend: a, weight: 1}, {backend: b, weight: 9}]}]\n",
			[]telemetry.Route{{}, {Name: "one", Backends: []string{"a"}}, {Name: "two", Backends: []string{"a", "b"}}},
		},
	} {
		if got := MeasuredRoutes(cmdtest.Load(t, c.file)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestLimitsByCPUAreLogged unless the configuration has them.
func TestLimitsByCPUAreLogged(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	all, one := "key=limits.decompressed_bytes_per_second limit=96MiB cpus=3", "key=limits.address.decompressed_bytes_per_second limit=48MiB cpus=3"
	for _, c := range []struct {
		flags map[string]any
		want  []string
	}{
		{nil, []string{all, one}},
		{map[string]any{"limits.decompressed_bytes_per_second": "auto", "limits.address.decompressed_bytes_per_second": "0"}, []string{all}},
		{map[string]any{"limits.decompressed_bytes_per_second": "1GiB"}, []string{one}},
	} {
		loaded, err := config.Load(config.Options{}, "", c.flags)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		LogLimits(slog.New(slog.NewTextHandler(&out, nil)), Bridge(loaded).Limits)
		if got := strings.Count(out.String(), "\n"); got != len(c.want) {
			t.Errorf("%v: %d lines, want %d:\n%s", c.flags, got, len(c.want), out.String())
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: want %s in\n%s", c.flags, want, out.String())
			}
		}
	}
}

// TestRestartErrorsHaveTheirPlaces, and say what a raised bound can be.
func TestRestartErrorsHaveTheirPlaces(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	start := cmdtest.Load(t, "backend: {address: a:1}\nlimits: {header_bytes: 8KiB}\n")
	next := cmdtest.Load(t, "listen:\n- address: :1\n- address: :2\n  limits: {calls_per_connection: 7}\n- address: :3\nbackend: {address: a:1}\nlimits: {header_bytes: 9KiB}\n")
	keys := []string{"limits.header_bytes", "listen[1].limits.calls_per_connection", "listen[2].limits.calls_per_connection"}
	err := Placed(&bridge.RestartError{Keys: keys}, start, next)
	if restart, ok := err.(*RestartError); !ok || !slices.Equal(restart.Keys, keys) { //nolint:errorlint // it isn't wrapped
		t.Fatalf("got %v, want a RestartError of %q", err, keys)
	}
	for i, want := range []string{
		"proxy.yaml:7: limits.header_bytes: can't be raised above 8KiB, the value at the start, without a restart of culvert",
		"proxy.yaml:4: listen[1].limits.calls_per_connection: a change needs a restart of culvert",
		"listen[2].limits.calls_per_connection: a change needs a restart of culvert", // removed from the file
	} {
		if line := strings.Split(err.Error(), "\n")[i]; !strings.HasSuffix(line, want) {
			t.Errorf("got %q, want %q", line, want)
		}
	}
}
