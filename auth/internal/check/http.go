package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
	"github.com/culvert-grpc/culvert/codec"
)

// HTTP is a service of the HTTP form: forward-auth.
type HTTP struct {
	// URL is http or https, and is asked as it is.
	URL string

	// TLS is for https: the service's CA is in it. If nil, the system's CAs are used.
	TLS *tls.Config

	// Get asks with GET. Otherwise culvert asks with the method of gRPC calls, POST.
	Get bool

	// AnswerNames are the headers of a 2xx answer that become metadata of the call. They are
	// Options.Own, too: the call never has the client's values of them.
	AnswerNames []string
}

const (
	// The headers of a forward-auth's answer that tell culvert what to do.
	backendHeader = "X-Culvert-Backend"
	subjectHeader = "X-Culvert-Subject"
	removeHeader  = "X-Envoy-Auth-Headers-To-Remove" // names with commas, as Envoy has it

	maxHTTPHeader = 32 << 10         // of an answer: 16 KiB may be used of it
	idleTimeout   = 30 * time.Second // of a connection
	dialTimeout   = 2 * time.Second  // of a connection that its question didn't wait for
)

type httpService struct {
	http      HTTP
	url       *url.URL
	names     []string
	rules     names
	secrets   []string // Options.Secrets
	transport *http.Transport
	ended     context.CancelFunc // of dials
}

// NewHTTP returns a Checker that asks a service of the HTTP form. It doesn't connect yet.
func NewHTTP(h HTTP, o Options) (*Checker, error) {
	if o.Names == nil {
		o.Names = []string{"authorization", "cookie"}
	}
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	for _, name := range o.Names {
		if ofQuestion(name) {
			return nil, fmt.Errorf("metadata for the service: %q is culvert's own, or of the connection: take it off the list", name)
		}
	}
	if h.AnswerNames, err = answerNames(h.AnswerNames, o.Reserved); err != nil {
		return nil, err
	}
	o.Own = slices.Concat(o.Own, h.AnswerNames)
	u, err := serviceURL(h.URL)
	if err != nil {
		return nil, err
	}
	dials, ended := context.WithCancel(context.Background()) // until close
	return newChecker(o, &httpService{
		http: h, url: u, names: o.Names, rules: names{o.Reserved, o.ReservedDown, removals(o.Own)}, secrets: o.Secrets,
		transport: transport(dials, h.TLS, o.Concurrent), ended: ended,
	}), nil
}

func (s *httpService) close() error {
	s.ended()
	s.transport.CloseIdleConnections()
	return nil
}

// transport returns a transport of HTTP/1.1 with bounds on everything that a service does. The
// end of dials ends those that run.
func transport(dials context.Context, t *tls.Config, concurrent int) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dialer := net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		// net/http may dial on when the question has ended, for the next one.
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(dials, cancel)()
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig:        t,
		TLSHandshakeTimeout:    dialTimeout,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxConnsPerHost:        concurrent,
		MaxIdleConns:           min(concurrent, 32),
		MaxIdleConnsPerHost:    min(concurrent, 32),
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHTTPHeader,
	}
}

// serviceURL returns the URL of a service, or what is wrong with it.
func serviceURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the authorization service's URL can't be parsed") // it may have a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("the authorization service's URL: want http://host/path or https://host/path")
	case u.User != nil:
		return nil, errors.New("the authorization service's URL has a user or a password, which would take the place of the call's authorization: leave it out")
	case u.Fragment != "":
		return nil, errors.New("the authorization service's URL has a fragment, which isn't sent: leave it out")
	}
	return u, nil
}

// answerNames checks the names of answer headers that become metadata.
func answerNames(list []string, reserved func(string) bool) ([]string, error) {
	lowered := make([]string, 0, len(list))
	for _, name := range list {
		name = ask.Lower(name)
		switch {
		case !codec.ValidName(name):
			return nil, fmt.Errorf("headers of the answer: %.64q can't name metadata", name)
		case reserved(name):
			return nil, fmt.Errorf("headers of the answer: %q is reserved: take it off the list", name)
		}
		lowered = append(lowered, name)
	}
	return lowered, nil
}

// ofQuestion reports whether a question of the HTTP form has a header of the name for itself,
// or its connection has.
func ofQuestion(name string) bool {
	plain := strings.NewReplacer("_", "-", ".", "-").Replace(name)
	switch plain {
	case "idempotency-key", "x-idempotency-key", "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "forwarded",
		"content-length", "content-type", "content-encoding", "accept-encoding", "user-agent", "x-request-id", "x-real-ip":
		return true
	}
	prefixes := []string{"x-forwarded-", "x-culvert-", "culvert-", "proxy-", "grpc-", "x-original-", "x-envoy-"}
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(plain, prefix) })
}
