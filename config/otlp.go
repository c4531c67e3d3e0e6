package config

import (
	"cmp"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// OTLP configures the export of traces, metrics and the log by OpenTelemetry's protocol.
type OTLP struct {
	// The receiver of traces, metrics and the lines of the log, such as an
	// OpenTelemetry collector:
	//
	//   - "http://localhost:4318": over plaintext.
	//   - "https://otlp.example.com": over TLS.
	//   - "": culvert exports only what a key below has a receiver for.
	//
	// With protocol http/protobuf, culvert adds /v1/traces, /v1/metrics and
	// /v1/logs. Unless a key sets this one, the variables of OpenTelemetry apply
	// (docs/guides/otlp.md#variables).
	Endpoint string `key:"endpoint" is:"receiver" restart:"yes"`

	// Where traces go: "" for endpoint, "none", or a URL of their own. Its path is
	// used as it is; without one it is /v1/traces.
	Traces string `key:"traces" is:"receiver or none" restart:"yes"`

	// Where metrics go, likewise.
	Metrics string `key:"metrics" is:"receiver or none" restart:"yes"`

	// Where the lines of the log go, likewise. Standard error has them, too.
	Logs string `key:"logs" is:"receiver or none" restart:"yes"`

	// How the receiver gets them: OTLP over HTTP, usually port 4318, or over gRPC,
	// usually port 4317.
	Protocol string `key:"protocol" one:"http/protobuf,grpc" restart:"yes"`

	// Headers of each request to the receiver, such as authorization.
	Headers []OTLPHeader `key:"headers"`

	// The CA certificates for verifying the receiver (PEM). Default: the system's.
	CA string `key:"ca" is:"file" restart:"yes"`

	// The client certificate for the receiver (PEM).
	Cert string `key:"cert" is:"file" restart:"yes"`

	// Its private key (PEM).
	Key string `key:"key" is:"file" restart:"yes"`

	// The compression of requests to the receiver.
	Compression string `key:"compression" one:"none,gzip" restart:"yes"`

	// How long a request to the receiver may take. Beyond, culvert drops its
	// content.
	Timeout time.Duration `key:"timeout" is:"positive duration" restart:"yes"`

	// How often metrics are exported.
	MetricsInterval time.Duration `key:"metrics_interval" is:"export interval" restart:"yes"`

	// The name of this culvert among the services.
	Service string `key:"service" is:"word" restart:"yes"`

	// More attributes of this culvert, such as deployment.environment.name.
	Attributes []OTLPAttribute `key:"attributes" restart:"yes"`
}

// OTLPHeader is one header of the requests to the receiver.
type OTLPHeader struct {
	// The name of the header.
	Name string `key:"name" is:"metadata name" needed:"true"`

	// The value. Use "file:otlp.token" or "${OTLP_TOKEN}" instead of a token
	// itself.
	Value string `key:"value" is:"secret" needed:"true"`
}

// OTLPAttribute is one attribute of this culvert in what it exports.
type OTLPAttribute struct {
	// The name of the attribute.
	Name string `key:"name" is:"word" needed:"true"`

	// The value.
	Value string `key:"value" is:"word" needed:"true"`
}

// A Signal is a kind of what OTLP exports. Its name is that of its key.
type Signal string

// The signals.
const (
	SignalTraces  Signal = "traces"
	SignalMetrics Signal = "metrics"
	SignalLogs    Signal = "logs"
)

// Signals are all signals.
var Signals = []Signal{SignalTraces, SignalMetrics, SignalLogs}

// notExported is the value of a signal's key that has it not exported.
const notExported = "none"

// own returns the value of the signal's key.
func (o *OTLP) own(s Signal) *string {
	switch s {
	case SignalTraces:
		return &o.Traces
	case SignalMetrics:
		return &o.Metrics
	}
	return &o.Logs
}

// Receiver returns the URL of the signal's receiver, or "" if the signal isn't exported.
func (o *OTLP) Receiver(s Signal) string {
	own := *o.own(s)
	receiver := cmp.Or(own, o.Endpoint)
	switch {
	case own == notExported || receiver == "":
		return ""
	case o.Protocol != "grpc" && (own == "" || withoutPath(own)):
		return strings.TrimRight(receiver, "/") + "/v1/" + string(s)
	default:
		return receiver
	}
}

// Exported returns the signals that have a receiver.
func (o *OTLP) Exported() (all []Signal) {
	for _, s := range Signals {
		if o.Receiver(s) != "" {
			all = append(all, s)
		}
	}
	return all
}

func withoutPath(receiver string) bool {
	u, err := url.Parse(receiver)
	return err == nil && strings.Trim(u.Path, "/") == ""
}

func checkReceiver(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("is not the URL of a receiver: write http://localhost:4318, or https://otlp.example.com")
	case u.User != nil:
		return errors.New("has a user name or a password: set the header authorization in otlp.headers")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a query or a fragment, which OTLP hasn't: write http://localhost:4318")
	}
	return nil
}

// checkOTLP finds keys that don't go together.
func checkOTLP(l *Loaded) {
	o := &l.OTLP
	switch {
	case o.Cert != "" && o.Key == "":
		l.refuse("otlp.cert", "requires otlp.key: set both, or none")
	case o.Cert == "" && o.Key != "":
		l.refuse("otlp.key", "requires otlp.cert: set both, or none")
	}
	for i, h := range o.Headers {
		if !canBeSent(h.Value) {
			l.refuse(join(Entry("otlp.headers", i), "value"), "has a character that can't be sent: use printable ASCII characters, without a space at either end")
		}
	}
	used, secure, exposed := false, false, false
	for key, receiver := range map[string]string{"otlp.endpoint": o.Endpoint, "otlp.traces": o.Traces, "otlp.metrics": o.Metrics, "otlp.logs": o.Logs} {
		u, err := url.Parse(receiver)
		if receiver == "" || receiver == notExported || err != nil {
			continue
		}
		checkReceiverProtocol(l, key, u)
		used = true
		secure = secure || u.Scheme == "https"
		exposed = exposed || u.Scheme == "http" && !isLoopback(u.Hostname())
	}
	if used && !secure {
		for _, key := range []string{"otlp.ca", "otlp.cert", "otlp.key"} {
			if l.IsSet(key) {
				l.refuse(key, "has no effect on plaintext: begin otlp.endpoint with https://, or remove this key")
			}
		}
	}
	if exposed && len(o.Headers) > 0 {
		l.warn("otlp.headers", "cross the network in plaintext: begin otlp.endpoint with https://")
	}
}

func checkReceiverProtocol(l *Loaded, key string, u *url.URL) {
	grpc := l.OTLP.Protocol == "grpc"
	switch port := u.Port(); {
	case grpc && strings.Trim(u.Path, "/") != "":
		l.refuse(key, "has a path, which OTLP over gRPC hasn't: remove it, or set otlp.protocol to http/protobuf")
	case grpc && port == "4318":
		l.warn(key, "4318 is usually the port of OTLP over HTTP: use 4317, or set otlp.protocol to http/protobuf")
	case !grpc && port == "4317":
		l.warn(key, "4317 is usually the port of OTLP over gRPC: use 4318, or set otlp.protocol to grpc")
	}
}

// canBeSent reports whether a header may have the value, over HTTP and over gRPC.
func canBeSent(value string) bool {
	return strings.TrimSpace(value) == value && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
}

// isLoopback reports whether a host is surely on this machine.
func isLoopback(host string) bool {
	return slices.ContainsFunc(addressesOf(host), netip.Addr.IsLoopback)
}
