package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// clearEnvironment takes the variables that culvert reads away from the tests.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, value) // puts it back after the test
			_ = os.Unsetenv(name) // can only fail on a malformed name
		}
	}
}

// write makes a file in a directory of the test's own.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingSetGivesTheDefaults(t *testing.T) {
	clearEnvironment(t)
	l, err := Load(Options{}, "", nil)
	if err != nil || !reflect.DeepEqual(l.Config, Defaults()) {
		t.Errorf("got %+v, %v, want the defaults", l.Config, err)
	}
	for _, k := range fileKeys.keys {
		if l.IsSet(k.Name) {
			t.Errorf("%s counts as set", k.Name)
		}
	}
}

func TestEveryKeyReachesItsField(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("BACKEND", "orders:9000")
	t.Setenv("EMPTY", "")
	file := write(t, "proxy.yaml", `
listen: 127.0.0.1:0
tls:
  cert: tls.pem
  key: /etc/culvert/tls.key
  client_ca: clients.pem
  client_auth: optional
  crls: [revoked.pem, /etc/culvert/revoked.der]
  min_version: 1.3
  http_listen: ":80"
  http_target: 8443
backend:
  address: ${BACKEND}
  authority: orders.example.com
  tls:
    ca: ca.pem
    cert: /etc/culvert/cert.pem
    key: key.pem
    server_name: orders.internal
  keepalive: 10m
  balance: least_request
  health_check:
    enabled: true
    service: shop.v1.Orders
  max_connections: 3
  queue_timeout: 1m
  limits: {calls: 70, waiting_calls: 50}
  resolve_interval: 10s
  use_proxy: true
allow_origins:
  - https://app.example.com
  - "http://localhost:*"
hosts: [grpc.example.com, "grpc.example.com:8443"]
enforce_origins: false
path_prefix: /grpc
fallback: http://localhost:3000
connect:
  json: pass
  get: [shop.v1.Orders/Get*]
methods:
  enforce: false
  allow: [shop.v1.Orders/*]
  deny: ["shop.v1.Orders/Delete*"]
trusted_proxies: [10.0.0.0/8, 192.0.2.1, "::1"]
trusted_header: forwarded
http2_server: standard
proxy_protocol: [10.1.2.3]
metadata: {forward_cookies: true, forward_set_cookies: true, client_certificate: true}
errors: concise
limits:
  message_bytes: 1MiB
  header_bytes: 32KiB
  buffered_bytes: 0.5GiB
  calls_per_connection: 7
  connections: 1000
  calls: ${CALLS:-500}
  calls_per_second: 1000
  handshakes_per_second: 50
  fallback_requests: 60
  decompressed_bytes_per_second: 100MiB
  memory: 1GiB
  enforce: false
  address: {connections: 10, calls: 20, calls_per_second: 30, handshakes_per_second: 40, fallback_requests: 50, decompressed_bytes_per_second: 0}
  slow_consumer_timeout: 30s
  idle_timeout: 1h30m
  max_age: ${EMPTY:-24h}
  slow_sender_timeout: 7s
  connection_idle_timeout: 8s
  connection_max_age: 9h
drain_timeout: 0s
drain_spread: 0s
health:
  listen: off
  metrics: false
admin:
  listen: off
log: {level: debug, format: json}
otlp:
  endpoint: https://otlp.example.com
  traces: none
  metrics: http://localhost:4317
  logs: https://logs.example.com
  protocol: grpc
  headers: [{name: authorization, value: Bearer x}]
  ca: ca.pem
  cert: /etc/culvert/cert.pem
  key: key.pem
  compression: gzip
  timeout: 3s
  metrics_interval: 5s
  service: edge
  attributes: [{name: deployment.environment.name, value: prod}]
traces:
  ratio: 0.01
  errors: true
  tell_unsampled: true
  upstream_span: true
  baggage: [tenant.id]
`)
	l, err := Load(Options{}, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	tls := ServerTLS{
		Cert: filepath.Join(dir, "tls.pem"), Key: "/etc/culvert/tls.key", ClientCA: filepath.Join(dir, "clients.pem"), ClientAuth: "optional",
		CRLs: []string{filepath.Join(dir, "revoked.pem"), "/etc/culvert/revoked.der"}, MinVersion: "1.3",
	}
	want := Config{
		Listen: []Listener{{Address: "127.0.0.1:0", TLS: ListenerTLS{true, tls}, TrustedHeader: "forwarded", ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}, TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("::1/128"),
		}}},
		TLS: TLS{ServerTLS: tls, HTTPListen: ":80", HTTPTarget: 8443},
		Backend: Backend{
			Address:   "orders:9000",
			Authority: "orders.example.com",
			TLS: BackendTLS{
				Enabled: true, CA: filepath.Join(dir, "ca.pem"), Cert: "/etc/culvert/cert.pem",
				Key: filepath.Join(dir, "key.pem"), ServerName: "orders.internal",
			},
			Keepalive: 10 * time.Minute,

			Balance: "least_request", HealthCheck: HealthCheck{Enabled: true, Service: "shop.v1.Orders"}, Limits: BackendLimits{Calls: 70, WaitingCalls: 50}, MaxConnections: 3, QueueTimeout: time.Minute, ResolveInterval: 10 * time.Second,
			UseProxy: true,
		},
		AllowOrigins: []string{"https://app.example.com", "http://localhost:*"},
		Hosts:        []string{"grpc.example.com", "grpc.example.com:8443"},
		PathPrefix:   "/grpc",
		Fallback:     "http://localhost:3000",
		Connect:      Connect{JSON: "pass", Get: []string{"shop.v1.Orders/Get*"}},
		Methods:      Methods{Allow: []string{"shop.v1.Orders/*"}, Deny: []string{"shop.v1.Orders/Delete*"}},
		TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("::1/128"),
		},
		TrustedHeader: "forwarded", ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")},
		Auth:     Defaults().Auth, // TestEveryKeyOfAuthReachesItsField
		Metadata: Metadata{ForwardCookies: true, ForwardSetCookies: true, ClientCertificate: true},
		Errors:   "concise", HTTP2Server: "standard",
		Limits: Limits{
			MessageBytes: 1 << 20, HeaderBytes: 32 << 10, BufferedBytes: 512 << 20, CallsPerConnection: 7,
			Connections: 1000, Calls: 500, CallsPerSecond: 1000, HandshakesPerSecond: 50, FallbackRequests: 60, SlowConsumerTimeout: 30 * time.Second,
			DecompressedBytesPerSecond: 100 << 20, Memory: 1 << 30,
			Address:     AddressLimits{Connections: 10, Calls: 20, CallsPerSecond: 30, HandshakesPerSecond: 40, FallbackRequests: 50},
			IdleTimeout: 90 * time.Minute, MaxAge: 24 * time.Hour,
			SlowSenderTimeout: 7 * time.Second, ConnectionIdleTimeout: 8 * time.Second, ConnectionMaxAge: 9 * time.Hour,
		},
		Log: Log{Level: "debug", Format: "json"},
		OTLP: OTLP{
			Endpoint: "https://otlp.example.com", Traces: "none", Metrics: "http://localhost:4317", Logs: "https://logs.example.com", Headers: []OTLPHeader{{"authorization", "Bearer x"}},
			CA: filepath.Join(dir, "ca.pem"), Cert: "/etc/culvert/cert.pem", Key: filepath.Join(dir, "key.pem"), Compression: "gzip", Timeout: 3 * time.Second, MetricsInterval: 5 * time.Second,
			Service: "edge", Attributes: []OTLPAttribute{{"deployment.environment.name", "prod"}}, Protocol: "grpc",
		},
		Traces: Traces{
			Ratio: 0.01, Errors: true, TellUnsampled: true, UpstreamSpan: true, Baggage: []string{"tenant.id"},
		},
	}
	if !reflect.DeepEqual(l.Config, want) {
		t.Errorf("got  %+v\nwant %+v", l.Config, want)
	}
}

func TestFlagWinsOverEnvironmentOverFileOverDefault(t *testing.T) {
	clearEnvironment(t)
	file := write(t, "proxy.yaml", "listen: :1001\nlog:\n  level: warn\ndrain_timeout: 1s\nhosts: [file.example.com]\nallow_origins: [https://file.example.com]\n")
	t.Setenv("CULVERT_LISTEN", ":1002")
	t.Setenv("CULVERT_LOG_LEVEL", "error")
	t.Setenv("CULVERT_DRAIN_TIMEOUT", "") // as a compose file passes what is not set
	t.Setenv("CULVERT_CONFIG", file)
	l, err := Load(Options{}, "", map[string]any{"listen": ":1003", "allow_origins": []string{"https://flag.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Listen[0].Address = ":1003"
	want.Log.Level, want.DrainTimeout = "error", time.Second
	want.Hosts, want.AllowOrigins = []string{"file.example.com"}, []string{"https://flag.example.com"}
	if !reflect.DeepEqual(l.Config, want) {
		t.Errorf("got  %+v\nwant %+v", l.Config, want)
	}
	for key, want := range map[string]string{
		"listen":            "--listen: x",
		"listen[0]":         "--listen: x",
		"listen[0].address": "--listen: x",
		"log.level":         "CULVERT_LOG_LEVEL: x",
		"drain_timeout":     file + ":4: drain_timeout: x",
		"errors":            "errors: x",
	} {
		if got := l.Errorf(key, "x").Error(); got != want {
			t.Errorf("the place of %s is said as %q, want %q", key, got, want)
		}
	}
}

// Each key of plain values can be set by its variable, whatever the level it is
// at.
func TestEveryPlainKeyHasAVariable(t *testing.T) {
	for _, k := range fileKeys.keys {
		if k.Env == "" {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			clearEnvironment(t)
			value := k.kind.example
			if k.words != nil {
				value = k.words[len(k.words)-1]
			}
			t.Setenv("CULVERT_LISTEN", ":7777") // so that no example is in its way
			t.Setenv(k.Env, value)
			l, err := Load(Options{}, "", nil)
			// A key that needs another is refused alone, after its value has arrived.
			if err != nil && !strings.HasPrefix(err.Error(), k.Env+": ") {
				t.Fatal(err)
			}
			want, err := k.kind.parse(value)
			if err != nil {
				t.Fatal(err)
			}
			field := reflect.ValueOf(l.Config).FieldByIndex(k.index)
			if k.entries != nil { // the one entry's value
				field = field.Index(0).FieldByIndex(k.entries.key(k.short).index)
			}
			if k.List {
				if field.Len() != 1 {
					t.Fatalf("%s=%s gives %v, want one value", k.Env, value, field)
				}
				field = field.Index(0)
			}
			if got := field.Interface(); got != want {
				t.Errorf("%s=%s gives %v, want %v", k.Env, value, got, want)
			}
		})
	}
}

// TestCommasInVariables separate values, except where a value may hold one.
func TestCommasInVariables(t *testing.T) {
	for _, c := range []struct {
		key, text string
		want      []string
	}{
		{"allow_origins", "https://a.example.com,https://b.example.com", []string{"https://a.example.com", "https://b.example.com"}},
		{"allow_origins", " https://a.example.com, https://b.example.com ,,\nnull,", []string{"https://a.example.com", "https://b.example.com", "null"}},
		{"allow_origins", `~https://pr-[0-9]{1,3}\.example\.com,~https://[a,b]\.example\.com,https://c.example.com`, []string{`~https://pr-[0-9]{1,3}\.example\.com`, `~https://[a,b]\.example\.com`, "https://c.example.com"}},
		{"allow_origins", `~https://a\{,https://b.example.com`, []string{`~https://a\{`, "https://b.example.com"}},
		{"allow_origins", `~https://a{1,https://b.example.com https://c.example.com,null`, []string{"~https://a{1,https://b.example.com", "https://c.example.com", "null"}},
		{"hosts", "a.example.com,[::1]:8080,b.example.com", []string{"a.example.com", "[::1]:8080", "b.example.com"}},
		{"trusted_proxies", "10.0.0.0/8,192.0.2.1", []string{"10.0.0.0/8", "192.0.2.1"}},
		{"methods.allow", "a.B/*,c.D/E", []string{"a.B/*", "c.D/E"}},
		{"metadata.vouched", "x-a,x-b", []string{"x-a", "x-b"}},
		{"tls.acme.domains", "a.example.com,b.example.com", []string{"a.example.com", "b.example.com"}},
		{"tls.acme.dns_resolvers", "192.0.2.53:53,[2001:db8::53]:53", []string{"192.0.2.53:53", "[2001:db8::53]:53"}},
		{"tls.crls", "/a,b.crl /c.crl", []string{"/a,b.crl", "/c.crl"}},
		{"hosts", " , ", nil},
	} {
		if got := fileKeys.key(c.key).split(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s=%s is %q, want %q", c.key, c.text, got, c.want)
		}
	}
	clearEnvironment(t)
	t.Setenv("CULVERT_ALLOW_ORIGINS", "https://a.example.com,https://b.example.com")
	l, err := Load(Options{}, "", nil)
	if err != nil || !slices.Equal(l.AllowOrigins, []string{"https://a.example.com", "https://b.example.com"}) {
		t.Errorf("%q, %v", l.AllowOrigins, err)
	}
	t.Setenv("CULVERT_ALLOW_ORIGINS", "https://a.example.com,b.example.com")
	if _, err := Load(Options{}, "", nil); err == nil || !strings.Contains(err.Error(), `CULVERT_ALLOW_ORIGINS: "b.example.com"`) {
		t.Errorf("a wrong value among commas: %v", err)
	}
}

// A list in a variable is split at blanks, since a pattern may hold commas.
func TestListsInVariables(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("CULVERT_ALLOW_ORIGINS", " https://app.example.com\t~https://pr-[0-9]{1,3}\\.example\\.com\n")
	t.Setenv("CULVERT_TRUSTED_PROXIES", "10.0.0.0/8 192.0.2.1")
	l, err := Load(Options{}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"https://app.example.com", `~https://pr-[0-9]{1,3}\.example\.com`}; !slices.Equal(l.AllowOrigins, want) {
		t.Errorf("allow_origins is %q, want %q", l.AllowOrigins, want)
	}
	if len(l.TrustedProxies) != 2 || len(l.Listen[0].TrustedProxies) != 2 {
		t.Errorf("trusted_proxies is %v, of the listener %v, want two", l.TrustedProxies, l.Listen[0].TrustedProxies)
	}
	if got := l.Errorf("allow_origins", "x").Error(); got != "CULVERT_ALLOW_ORIGINS: x" {
		t.Errorf("its place is %q", got)
	}
	// A flag wins.
	if l, err = Load(Options{}, "", map[string]any{"allow_origins": []string{"https://b.example.com"}}); err != nil || !slices.Equal(l.AllowOrigins, []string{"https://b.example.com"}) {
		t.Errorf("with a flag allow_origins is %q, %v", l.AllowOrigins, err)
	}
}

func TestUnknownVariables(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"CULVERT_LISTN", ":80", "CULVERT_LISTN: unknown variable … CULVERT_LISTEN"},
		{"CULVERT_BACKEND", "a:1", "CULVERT_BACKEND: unknown variable … CULVERT_BACKEND_ADDRESS"},
		{"CULVERT_BACKEND_CERT", "a.pem", "CULVERT_BACKEND_CERT: unknown variable … CULVERT_BACKEND_TLS_CERT"},
		{"CULVERT_XYZZY_PLUGH", "1", "CULVERT_XYZZY_PLUGH: unknown variable … docs/reference/configuration.md"},
		{"CULVERT_ALLOW_ORIGINS", "https://a.example.com app.example.com", `CULVERT_ALLOW_ORIGINS: "app.example.com" … scheme … "https://app.example.com"`},
		{"CULVERT_LIMITS_METHODS", "a", "CULVERT_LIMITS_METHODS: … limits.methods … file"},
		{"CULVERT_PORT", "8080", "CULVERT_PORT: unknown variable … CULVERT_LISTEN=:8080"},
		{"CULVERT_LIMITS_CALLS", "many", `CULVERT_LIMITS_CALLS: "many" … 100`},
		{"CULVERT_LISTN", "", ""},
		{"CULVERT_SERVICE_HOST", "10.0.0.1", ""},
		{"CULVERT_SERVICE_PORT", "8080", ""},
		{"CULVERT_SERVICE_PORT_GRPC_WEB", "8080", ""},
		{"CULVERT_PORT", "tcp://10.0.0.1:8080", ""},
		{"CULVERT_PORT_8080_TCP", "tcp://10.0.0.1:8080", ""},
		{"CULVERT_PORT_8080_TCP_ADDR", "10.0.0.1", ""},
		{"CULVERT_DEMO_SERVICE_HOST", "10.0.0.1", ""},
		{"CULVERT_DEMO_PORT_53_UDP_PROTO", "udp", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv(c.name, c.value)
			_, err := Load(Options{}, "", nil)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if !says(got, c.want) {
				t.Errorf("%s=%s: got %q, want %q", c.name, c.value, got, c.want)
			}
		})
	}
}

func TestWrongFlagValueNamesTheFlag(t *testing.T) {
	clearEnvironment(t)
	_, err := Load(Options{}, "", map[string]any{"allow_origins": []string{"app.example.com"}, "listen": "8080"})
	want := `--listen: "8080" … colon … ":8080"` + "\n" +
		`--allow-origin: "app.example.com" … scheme … "https://app.example.com"`
	if err == nil || !sayLines(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestFileThatCantBeRead(t *testing.T) {
	clearEnvironment(t)
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	large := write(t, "large.yaml", "# "+strings.Repeat("x", maxFileBytes))
	for file, want := range map[string]string{
		missing: "configuration: " + missing + ": … no such file or directory … --config … CULVERT_CONFIG",
		large:   "configuration: " + large + ": … 8 MiB … --config … CULVERT_CONFIG",
	} {
		if _, err := Load(Options{}, file, nil); err == nil || !says(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
