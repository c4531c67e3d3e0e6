package config

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTraceKeysThatDontGoTogether(t *testing.T) {
	for _, c := range []struct {
		name, file     string
		errs, warnings []string
	}{
		{"nothing", "traces: {ratio: 0.5}", nil, nil},
		{"HTTP", "traces: {endpoint: 'http://localhost:4318', headers: [{name: a, value: b}]}", nil, nil},
		{"a path over gRPC", "traces: {endpoint: 'http://localhost:4317/v1/traces', protocol: grpc}", []string{
			"proxy.yaml:1: traces.endpoint: … path … gRPC … traces.protocol … http/protobuf",
		}, nil},
		{"the port of HTTP", "traces: {endpoint: 'http://localhost:4318', protocol: grpc}", nil, []string{
			"proxy.yaml:1: traces.endpoint: … 4318 … 4317 … traces.protocol",
		}},
		{"the port of gRPC", "traces: {endpoint: 'http://localhost:4317'}", nil, []string{
			"proxy.yaml:1: traces.endpoint: … 4317 … 4318 … traces.protocol",
		}},
		{"a CA without TLS", "traces: {endpoint: 'http://localhost:4318', ca: ca.pem}", []string{
			"proxy.yaml:1: traces.ca: … plaintext … https://",
		}, nil},
		{"half a certificate", "traces: {endpoint: 'https://localhost:4318', cert: c.pem}", []string{
			"proxy.yaml:1: traces.cert: … traces.key",
		}, nil},
		{"a key alone", "traces: {endpoint: 'https://localhost:4318', key: k.pem}", []string{
			"proxy.yaml:1: traces.key: … traces.cert",
		}, nil},
		{"a secret in plaintext", "traces: {endpoint: 'http://otlp.example.com:4318', headers: [{name: authorization, value: hunter2}]}", nil, []string{
			"proxy.yaml:1: traces.headers: … plaintext … https://",
		}},
		{"a secret with a new line", `traces: {endpoint: 'https://otlp.example.com', headers: [{name: a, value: b}, {name: authorization, value: "hunter\n2"}]}`, []string{
			"proxy.yaml:1: traces.headers[1].value: … can't be sent … printable",
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
	byDefault := Defaults().Traces
	for _, c := range []struct {
		name, file string
		variables  map[string]string
		want       func(*Traces)
	}{
		{"no endpoint", "", map[string]string{
			"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "wrong",
		}, func(*Traces) {}},
		{"all signals' endpoint", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318/"}, func(t *Traces) {
			t.Endpoint = "http://localhost:4318/v1/traces"
		}},
		{"all signals' endpoint over gRPC", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, func(t *Traces) {
			t.Endpoint, t.Protocol = "http://localhost:4317", "grpc"
		}},
		{"those of traces win", "", map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:4318/in",
			"OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "Api-Key=x%2Cy%3D, b=2",
			"OTEL_EXPORTER_OTLP_TIMEOUT": "3000", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
		}, func(t *Traces) {
			t.Endpoint, t.Headers, t.Timeout, t.Compression = "http://b:4318/in", []TraceHeader{{"api-key", "x,y="}, {"b", "2"}}, 3*time.Second, "gzip"
		}},
		{"keys win", "traces: {endpoint: 'http://c:4318', headers: [{name: k, value: v}], ratio: 0.5}", map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_TRACES_SAMPLER": "always_off", "OTEL_SERVICE_NAME": "edge",
		}, func(t *Traces) {
			t.Endpoint, t.Headers, t.Ratio, t.Service = "http://c:4318", []TraceHeader{{"k", "v"}}, 0.5, "edge"
		}},
		{"a key turns them off", "traces: {endpoint: ''}", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, func(*Traces) {}},
		{"the SDK is off", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_SDK_DISABLED": "true"}, func(*Traces) {}},
		{"no exporter", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_TRACES_EXPORTER": "none"}, func(*Traces) {}},
		{"a ratio", "", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, func(t *Traces) {
			t.Endpoint, t.Ratio = "http://a:4318", 0.25
		}},
		{"names of attributes keep their case", "", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318", "OTEL_RESOURCE_ATTRIBUTES": "Shop.Region=north%20west"}, func(t *Traces) {
			t.Endpoint, t.Attributes = "http://a:4318", []TraceAttribute{{"Shop.Region", "north west"}}
		}},
		{"the service's own variable wins", "", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318", "OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.name=edge,zone=b"}, func(t *Traces) {
			t.Endpoint, t.Service, t.Attributes = "http://a:4318", "shop", []TraceAttribute{{"zone", "b"}}
		}},
		{"the service's key wins", "traces: {endpoint: 'http://a:4318', service: shop}", map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "service.name=edge"}, func(t *Traces) {
			t.Endpoint, t.Service = "http://a:4318", "shop"
		}},
		{"certificates for others", "", map[string]string{
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "c.pem", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "k.pem",
		}, func(t *Traces) { t.Endpoint = "http://a:4318" }},
		{"certificates", "", map[string]string{
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://a:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "c.pem", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "k.pem",
		}, func(t *Traces) { t.Endpoint, t.CA, t.Cert, t.Key = "https://a:4318", "ca.pem", "c.pem", "k.pem" }},
		{"a name among the attributes", "", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318", "OTEL_RESOURCE_ATTRIBUTES": "service.name=edge,deployment.environment.name=prod"}, func(t *Traces) {
			t.Endpoint, t.Service, t.Attributes = "http://a:4318", "edge", []TraceAttribute{{"service.name", "edge"}, {"deployment.environment.name", "prod"}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := byDefault
			c.want(&want)
			l, err := withVariables(t, c.file, c.variables)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Traces; !slices.Equal(got.Headers, want.Headers) || !slices.Equal(got.Attributes, want.Attributes) ||
				got.Endpoint != want.Endpoint || got.Protocol != want.Protocol || got.Timeout != want.Timeout || got.Compression != want.Compression ||
				got.Ratio != want.Ratio || got.Service != want.Service || got.CA != want.CA || got.Cert != want.Cert || got.Key != want.Key {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestWrongStandardVariables: an error names the variable, and no part of a header.
func TestWrongStandardVariables(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS":         "a=b,hunter2",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":  "a=hunter2%zz",
		"OTEL_EXPORTER_OTLP_PROTOCOL":        "http/json",
		"OTEL_EXPORTER_OTLP_TIMEOUT":         "10s",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://me:hunter2@a:4318",
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
		`endpoint: "http://localhost:4318/v1/traces" # OTEL_EXPORTER_OTLP_ENDPOINT`,
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
