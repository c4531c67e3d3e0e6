package config

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Traces configures distributed traces.
type Traces struct {
	// The receiver of traces, such as an OpenTelemetry collector:
	//
	//   - "http://localhost:4318": over plaintext.
	//   - "https://otlp.example.com": over TLS.
	//   - "": culvert makes no traces.
	//
	// With protocol http/protobuf, the path is /v1/traces unless the URL has one.
	// Unless a key sets this one, the variables of OpenTelemetry apply
	// (docs/guides/traces.md#variables).
	Endpoint string `key:"endpoint" is:"receiver" restart:"yes"`

	// How the receiver gets traces: OTLP over HTTP, usually port 4318, or over
	// gRPC, usually port 4317.
	Protocol string `key:"protocol" one:"http/protobuf,grpc" restart:"yes"`

	// Headers of each request to the receiver, such as authorization.
	Headers []TraceHeader `key:"headers"`

	// The CA certificates for verifying the receiver (PEM). Default: the system's.
	CA string `key:"ca" is:"file" restart:"yes"`

	// The client certificate for the receiver (PEM).
	Cert string `key:"cert" is:"file" restart:"yes"`

	// Its private key (PEM).
	Key string `key:"key" is:"file" restart:"yes"`

	// The compression of requests to the receiver.
	Compression string `key:"compression" one:"none,gzip" restart:"yes"`

	// How long a request to the receiver may take. culvert drops the spans of one
	// that takes longer.
	Timeout time.Duration `key:"timeout" is:"positive duration" restart:"yes"`

	// The name of this culvert among the services.
	Service string `key:"service" is:"word" restart:"yes"`

	// More attributes of this culvert, such as deployment.environment.name.
	Attributes []TraceAttribute `key:"attributes" restart:"yes"`

	// Which part of the calls is sampled, from 0 to 1. A call from a trusted proxy,
	// or with a client certificate, that has a traceparent is sampled if the caller
	// has sampled it.
	Ratio Ratio `key:"ratio"`

	// Export the span of each call that ended with an error of a server, too. That
	// shows only at the end: the backend was told that the call isn't sampled, so
	// its spans are missing.
	Errors bool `key:"errors"`

	// Tell the backend of each call that isn't sampled, too, so that it doesn't
	// sample it by itself. That costs each call about a tenth more CPU time. With
	// false, culvert only tells of calls that have a traceparent already, and of
	// all with errors.
	TellUnsampled bool `key:"tell_unsampled"`

	// Export a second span for each sampled call: the call to the backend, of kind
	// CLIENT. Some programs draw maps of services only from such pairs.
	UpstreamSpan bool `key:"upstream_span"`

	// Names of members of the metadata baggage that cross while there are traces.
	Baggage []string `key:"baggage" is:"baggage name"`
}

// TraceHeader is one header of the requests to the receiver of traces.
type TraceHeader struct {
	// The name of the header.
	Name string `key:"name" is:"metadata name" needed:"true"`

	// The value. Use "file:otlp.token" or "${OTLP_TOKEN}" instead of a token
	// itself.
	Value string `key:"value" is:"secret" needed:"true"`
}

// TraceAttribute is one attribute of this culvert in traces.
type TraceAttribute struct {
	// The name of the attribute.
	Name string `key:"name" is:"word" needed:"true"`

	// The value.
	Value string `key:"value" is:"word" needed:"true"`
}

// Ratio is a part of calls, from 0 to 1.
type Ratio float64

// String writes it as short as possible.
func (r Ratio) String() string { return strconv.FormatFloat(float64(r), 'f', -1, 64) }

const ratioPattern = `^(0*1(\.0*)?|0*\.[0-9]+|0+(\.[0-9]*)?)$`

func parseRatio(s string) (any, error) {
	n, err := strconv.ParseFloat(s, 64)
	switch {
	case err == nil && !(n >= 0 && n <= 1):
		return nil, errors.New("is not from 0 to 1: write 0.01 for one call in a hundred")
	case err != nil || strings.Trim(s, "0123456789.") != "":
		return nil, errors.New("is not a ratio: write a number from 0 to 1, such as 0.01")
	}
	return Ratio(n), nil
}

func checkReceiver(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("is not the URL of a receiver: write http://localhost:4318, or https://otlp.example.com")
	case u.User != nil:
		return errors.New("has a user name or a password: set the header authorization in traces.headers")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a query or a fragment, which OTLP hasn't: write http://localhost:4318")
	}
	return nil
}

// checkBaggageName accepts a token of HTTP. https://www.w3.org/TR/baggage/#key
func checkBaggageName(s string) error {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return errors.New("is not the name of a member of a baggage: write one such as tenant.id")
		}
	}
	if s == "" {
		return errors.New("is empty: write the name of a member of the baggage, such as tenant.id")
	}
	return nil
}

// checkTraces finds keys that don't go together.
func checkTraces(l *Loaded) {
	t := l.Traces
	u, err := url.Parse(t.Endpoint)
	if t.Endpoint == "" || err != nil {
		return
	}
	switch port := u.Port(); {
	case t.Protocol == "grpc" && strings.Trim(u.Path, "/") != "":
		l.refuse("traces.endpoint", "has a path, which OTLP over gRPC hasn't: remove it, or set traces.protocol to http/protobuf")
	case t.Protocol == "grpc" && port == "4318":
		l.warn("traces.endpoint", "4318 is usually the port of OTLP over HTTP: use 4317, or set traces.protocol to http/protobuf")
	case t.Protocol != "grpc" && port == "4317":
		l.warn("traces.endpoint", "4317 is usually the port of OTLP over gRPC: use 4318, or set traces.protocol to grpc")
	}
	if (t.Cert == "") != (t.Key == "") {
		key, missing := "traces.cert", "traces.key"
		if t.Cert == "" {
			key, missing = missing, key
		}
		l.refuse(key, "requires %s: set both, or none", missing)
	}
	for i, h := range t.Headers {
		if !canBeSent(h.Value) {
			l.refuse(join(Entry("traces.headers", i), "value"), "has a character that can't be sent: use printable ASCII characters, without a space at either end")
		}
	}
	if u.Scheme == "https" {
		return
	}
	for _, key := range []string{"traces.ca", "traces.cert", "traces.key"} {
		if l.IsSet(key) {
			l.refuse(key, "has no effect on plaintext: begin traces.endpoint with https://, or remove this key")
		}
	}
	if len(t.Headers) > 0 && !isLoopback(u.Hostname()) {
		l.warn("traces.headers", "cross the network in plaintext: begin traces.endpoint with https://")
	}
}

// canBeSent reports whether a header may have the value, over HTTP and over gRPC.
func canBeSent(value string) bool {
	for _, c := range []byte(value) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return strings.TrimSpace(value) == value
}

// isLoopback reports whether a host is surely on this machine.
func isLoopback(host string) bool {
	for _, addr := range addressesOf(host) {
		if addr.IsLoopback() {
			return true
		}
	}
	return false
}
