package telemetry

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"time"
)

// A TraceReceiver is where spans go, by OTLP.
type TraceReceiver struct {
	Endpoint string            // "http://host:port" for plaintext, "https://host:port" for TLS; over HTTP with the path, if it isn't /v1/traces
	GRPC     bool              // OTLP over gRPC, else over HTTP
	Headers  map[string]string // of each request; may hold secrets
	TLS      *tls.Config       // for https; nil: the system's CAs
	Gzip     bool
	Timeout  time.Duration // of a request, with its retries

	Service    string            // the service's name
	Version    string            // of the service
	Instance   string            // an id of the running program
	Attributes map[string]string // further ones of the service, and in place of the ones above
}

// OpenTraces begins to export to the receiver. It doesn't wait for the receiver. Close must
// follow.
func OpenTraces(to TraceReceiver, rules TraceRules, log *slog.Logger) (*Traces, error) {
	u, err := url.Parse(to.Endpoint)
	if err != nil {
		return nil, errors.New("isn't a URL") // the text may hold a password
	}
	if to.TLS == nil {
		to.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	var once sender
	if to.GRPC {
		once, err = newGRPCSender(&to, u)
	} else {
		once, err = newHTTPSender(&to, u), nil
	}
	if err != nil {
		return nil, err
	}
	t := &Traces{once: once, to: newSpanQueue(retrying{once}, to.source(), to.Timeout, log)}
	t.SetRules(rules)
	return t, nil
}

// SetHeaders replaces the headers of the requests to the receiver, such as a token that has a new
// value.
func (t *Traces) SetHeaders(all map[string]string) { t.once.setHeaders(all) }

// Close exports the spans that wait, for as long as patience lasts.
func (t *Traces) Close(patience time.Duration) { t.to.close(patience) }

// Spans returns how many spans were exported so far, how many were dropped because the queue was
// full, and how many because the receiver didn't accept them in time.
func (t *Traces) Spans() (exported, overflowed, failed int64) {
	return t.to.exported.Load(), t.to.overflowed.Load(), t.to.failed.Load()
}

// source returns the resource of the spans.
func (to *TraceReceiver) source() spanSource {
	all := map[string]string{"service.name": to.Service, "service.version": to.Version, "service.instance.id": to.Instance}
	for name, value := range to.Attributes {
		all[cut(name)] = value
	}
	for name, value := range all {
		all[name] = cut(value)
	}
	return newSpanSource(all, slices.Sorted(maps.Keys(all)), to.Version)
}
