package config

import (
	"bytes"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestOTLPKeysThatDontGoTogether(t *testing.T) {
	for _, c := range []struct {
		name, file     string
		errs, warnings []string
	}{
		{"nothing", "otlp: {service: x}", nil, nil},
		{"HTTP", "otlp: {endpoint: 'http://localhost:4318', headers: [{name: a, value: b}]}", nil, nil},
		{"a path over gRPC", "otlp: {endpoint: 'http://localhost:4317/v1/traces', protocol: grpc}", []string{
			"proxy.yaml:1: otlp.endpoint: … path … gRPC … otlp.protocol … http/protobuf",
		}, nil},
		{"the port of HTTP", "otlp: {endpoint: 'http://localhost:4318', protocol: grpc}", nil, []string{
			"proxy.yaml:1: otlp.endpoint: … 4318 … 4317 … otlp.protocol",
		}},
		{"the port of gRPC", "otlp: {endpoint: 'http://localhost:4317'}", nil, []string{
			"proxy.yaml:1: otlp.endpoint: … 4317 … 4318 … otlp.protocol",
		}},
		{"a CA without TLS", "otlp: {endpoint: 'http://localhost:4318', ca: ca.pem}", []string{
			"proxy.yaml:1: otlp.ca: … plaintext … https://",
		}, nil},
		{"half a certificate", "otlp: {endpoint: 'https://localhost:4318', cert: c.pem}", []string{
			"proxy.yaml:1: otlp.cert: … otlp.key",
		}, nil},
		{"a key alone", "otlp: {endpoint: 'https://localhost:4318', key: k.pem}", []string{
			"proxy.yaml:1: otlp.key: … otlp.cert",
		}, nil},
		{"a path of a signal over gRPC", "otlp: {logs: 'http://localhost:4317/v1/logs', protocol: grpc}", []string{
			"proxy.yaml:1: otlp.logs: … path … gRPC … otlp.protocol … http/protobuf",
		}, nil},
		{"a CA for one of two", "otlp: {endpoint: 'http://localhost:4318', logs: 'https://localhost:4319', ca: ca.pem}", nil, nil},
		{"a secret in plaintext", "otlp: {endpoint: 'http://otlp.example.com:4318', headers: [{name: authorization, value: hunter2}]}", nil, []string{
			"proxy.yaml:1: otlp.headers: … plaintext … https://",
		}},
		{"a secret with a new line", `otlp: {endpoint: 'https://otlp.example.com', headers: [{name: a, value: b}, {name: authorization, value: "hunter\n2"}]}`, []string{
			"proxy.yaml:1: otlp.headers[1].value: … can't be sent … printable",
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) { loadSays(t, "proxy.yaml", c.file, c.errs, c.warnings) })
	}
}

// withVariables loads a file with variables, and without others.
func withVariables(t *testing.T, file string, variables map[string]string) (*Loaded, error) {
	t.Helper()
	clearEnvironment(t)
	for name, value := range variables {
		t.Setenv(name, value)
	}
	return Load(Options{}, write(t, "proxy.yaml", file), nil)
}

func TestStandardVariables(t *testing.T) {
	off := receivers{}
	all := receivers{"http://a:4318/v1/traces", "http://a:4318/v1/metrics", "http://a:4318/v1/logs"}
	endpoint := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}
	certificates := map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "c.pem", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "k.pem"}
	for _, c := range []struct {
		name, file string
		variables  map[string]string
		to         receivers
		want       func(*Config)
	}{
		{"no endpoint", "", map[string]string{
			"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "wrong", "OTEL_LOGS_EXPORTER": "console",
		}, off, nil},
		{"all signals' endpoint", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318/"}, all, nil},
		{"a path", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318/in"}, receivers{"http://a:4318/in/v1/traces", "http://a:4318/in/v1/metrics", "http://a:4318/in/v1/logs"}, nil},
		{
			"all signals' endpoint over gRPC", "",
			map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
			receivers{"http://a:4317", "http://a:4317", "http://a:4317"},
			func(c *Config) { c.OTLP.Protocol = "grpc" },
		},
		{
			"one signal", "",
			map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://b:4318", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a=2"},
			receivers{logs: "http://b:4318/v1/logs"},
			func(c *Config) { c.OTLP.Headers = []OTLPHeader{{"a", "1"}} },
		},
		{"a signal's own wins", "", with(endpoint, map[string]string{
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:4318/in", "OTEL_EXPORTER_OTLP_HEADERS": "Api-Key=x%2Cy%3D, b=2",
			"OTEL_EXPORTER_OTLP_TIMEOUT": "3000", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_METRIC_EXPORT_INTERVAL": "5000",
		}), receivers{"http://b:4318/in", all.metrics, all.logs}, func(c *Config) {
			c.OTLP.Headers, c.OTLP.Timeout, c.OTLP.Compression, c.OTLP.MetricsInterval = []OTLPHeader{{"api-key", "x,y="}, {"b", "2"}}, 3*time.Second, "gzip", 5*time.Second
		}},
		{"equal ones of signals", "", with(endpoint, map[string]string{
			"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
		}), all, func(c *Config) { c.OTLP.Headers = []OTLPHeader{{"a", "1"}} }},
		{"keys win", "otlp: {endpoint: 'http://a:4318', headers: [{name: k, value: v}], logs: none}\ntraces: {ratio: 0.5}", map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:4318", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://b:4318",
			"OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_TRACES_SAMPLER": "always_off", "OTEL_SERVICE_NAME": "edge",
		}, receivers{all.traces, all.metrics, ""}, func(c *Config) {
			c.OTLP.Headers, c.Traces.Ratio, c.OTLP.Service = []OTLPHeader{{"k", "v"}}, 0.5, "edge"
		}},
		{"a key turns them off", "otlp: {endpoint: ''}", with(endpoint, map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://b:4318"}), off, nil},
		{"a key of one signal", "otlp: {traces: none}", endpoint, receivers{"", all.metrics, all.logs}, nil},
		{"the SDK is off", "", with(endpoint, map[string]string{"OTEL_SDK_DISABLED": "true"}), off, nil},
		{"no exporter", "", with(endpoint, map[string]string{"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "console,otlp"}), receivers{all.traces, "", all.logs}, nil},
		{"another exporter", "", with(endpoint, map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}), receivers{"", all.metrics, all.logs}, nil},
		{"a ratio", "", with(endpoint, map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}), all, func(c *Config) { c.Traces.Ratio = 0.25 }},
		{"names of attributes keep their case", "", with(endpoint, map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "Shop.Region=north%20west"}), all, func(c *Config) {
			c.OTLP.Attributes = []OTLPAttribute{{"Shop.Region", "north west"}}
		}},
		{"the service's own variable wins", "", with(endpoint, map[string]string{"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.name=edge,zone=b"}), all, func(c *Config) {
			c.OTLP.Service, c.OTLP.Attributes = "shop", []OTLPAttribute{{"zone", "b"}}
		}},
		{"the service's key wins", "otlp: {service: shop}", with(endpoint, map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "service.name=edge"}), all, func(c *Config) {
			c.OTLP.Service = "shop"
		}},
		{"certificates for others", "", with(endpoint, certificates), all, nil},
		{"certificates", "", with(certificates, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://a:4318"}), receivers{"https://a:4318/v1/traces", "https://a:4318/v1/metrics", "https://a:4318/v1/logs"}, func(c *Config) {
			c.OTLP.CA, c.OTLP.Cert, c.OTLP.Key = "ca.pem", "c.pem", "k.pem"
		}},
		{"certificates of a signal's receiver", "", with(certificates, map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://a:4318"}), receivers{logs: "https://a:4318/v1/logs"}, func(c *Config) {
			c.OTLP.CA, c.OTLP.Cert, c.OTLP.Key = "ca.pem", "c.pem", "k.pem"
		}},
		{"a name among the attributes", "", with(endpoint, map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "service.name=edge,deployment.environment.name=prod"}), all, func(c *Config) {
			c.OTLP.Service, c.OTLP.Attributes = "edge", []OTLPAttribute{{"service.name", "edge"}, {"deployment.environment.name", "prod"}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := Defaults()
			if c.want != nil {
				c.want(&want)
			}
			l, err := withVariables(t, c.file, c.variables)
			if err != nil {
				t.Fatal(err)
			}
			got := &l.OTLP
			if to := (receivers{got.Receiver(SignalTraces), got.Receiver(SignalMetrics), got.Receiver(SignalLogs)}); to != c.to {
				t.Errorf("the receivers are %q, want %q", to, c.to)
			}
			want.OTLP.Endpoint, want.OTLP.Traces, want.OTLP.Metrics, want.OTLP.Logs = got.Endpoint, got.Traces, got.Metrics, got.Logs
			if !reflect.DeepEqual(*got, want.OTLP) || l.Traces.Ratio != want.Traces.Ratio {
				t.Errorf("got  %+v, ratio %v\nwant %+v", *got, l.Traces.Ratio, want.OTLP)
			}
		})
	}
}

// receivers are where the signals go.
type receivers struct{ traces, metrics, logs string }

func with(variables, more map[string]string) map[string]string {
	all := maps.Clone(variables)
	maps.Copy(all, more)
	return all
}

// TestWrongStandardVariables: an error names the variable, and no part of a header.
func TestWrongStandardVariables(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS":         "a=b,hunter2",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":  "a=hunter2%zz", // it is the only one of three, too
		"OTEL_EXPORTER_OTLP_PROTOCOL":        "http/json",
		"OTEL_EXPORTER_OTLP_TIMEOUT":         "10s",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://me:hunter2@a:4318",
		"OTEL_EXPORTER_OTLP_LOGS_HEADERS":    "a=hunter2",
		"OTEL_METRIC_EXPORT_INTERVAL":        "10",
		"OTEL_TRACES_SAMPLER":                "jaeger_remote",
	} {
		_, err := withVariables(t, "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", name: value})
		if err == nil || !strings.HasPrefix(err.Error(), name+": ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s=%s gives %v", name, value, err)
		}
		_ = os.Unsetenv(name) // the test has another one
	}
}

// TestStandardHeadersAreHidden: in what operators see.
func TestStandardHeadersAreHidden(t *testing.T) {
	l, err := withVariables(t, "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		`endpoint: "http://localhost:4318" # OTEL_EXPORTER_OTLP_ENDPOINT`,
		`name: authorization # OTEL_EXPORTER_OTLP_HEADERS value: "(hidden)" # OTEL_EXPORTER_OTLP_HEADERS`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %s", want)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("it shows the header")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func FuzzListOfPairs(f *testing.F) {
	f.Add("a=b,c=d%2C")
	f.Fuzz(func(t *testing.T, text string) {
		pairs, err := listOfPairs(text)
		if err != nil && len(text) > 8 && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes %q", text)
		}
		if len(pairs) > maxPairs {
			t.Errorf("%d pairs", len(pairs))
		}
	})
}
