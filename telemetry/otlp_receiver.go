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

// A Receiver is where a signal goes, by OTLP.
type Receiver struct {
	Endpoint string            // "http://host:port" for plaintext, "https://host:port" for TLS; over HTTP with the path
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

// open returns an exporter to the receiver. It doesn't wait for the receiver.
func (to Receiver) open(s signal, log *slog.Logger) (*exporter, error) {
	u, err := url.Parse(to.Endpoint)
	if err != nil {
		return nil, errors.New("isn't a URL") // the text may hold a password
	}
	if to.TLS == nil {
		to.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	} else {
		to.TLS = to.TLS.Clone() // http.Transport writes to it, and the receivers of other signals have it, too
	}
	var once sender
	if to.GRPC {
		once, err = newGRPCSender(&to, u, s.method)
	} else {
		once = newHTTPSender(&to)
	}
	if err != nil {
		return nil, err
	}
	return &exporter{signal: s, to: retrying{once}, once: once, source: to.source(), limit: to.Timeout, log: log}, nil
}

// source returns the resource of what goes to the receiver.
func (to *Receiver) source() source {
	all := map[string]string{"service.name": to.Service, "service.version": to.Version, "service.instance.id": to.Instance}
	for name, value := range to.Attributes {
		all[cut(name)] = value
	}
	var about message
	for _, name := range slices.Sorted(maps.Keys(all)) {
		about = about.attribute(resourceAttributes, name, cut(all[name]))
	}
	scope := message(nil).text(scopeName, "github.com/culvert-grpc/culvert").text(scopeVersion, to.Version)
	return source{before: message(nil).bytes(ofResource, about), scope: message(nil).bytes(ofScope, scope)}
}
