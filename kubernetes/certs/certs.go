package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Life of what is made. Both are replaced after two thirds of it.
const (
	caLife   = 365 * 24 * time.Hour
	leafLife = 7 * 24 * time.Hour
	// retryEvery is how often a certificate is asked for that isn't there yet.
	retryEvery = time.Second
)

// Options are the options of a [Source].
type Options struct {
	API *rest.Config // of the API server; nil: the one that kubectl would use

	Namespace     string // of Secret and Service; empty, and API nil: the pod's own
	Secret        string // keeps the CA and its key
	Service       string // the name in the certificate is its name in the cluster
	WebhookConfig string // the MutatingWebhookConfiguration that gets the CA

	Log *slog.Logger
}

// A Source has the serving certificate.
type Source struct {
	options   Options
	client    kubernetes.Interface
	authority *authority.DynamicAuthority
	source    *cmtls.DynamicSource
	trust     *trust

	mu     sync.Mutex
	served *tls.Certificate // the last one that was returned
}

var (
	errNotYet = errors.New("no serving certificate yet")
	errClock  = errors.New("the serving certificate isn't valid yet by the clock of the API server")
)

// New returns a source that has no certificate before [Source.Run].
func New(o Options) (*Source, error) { return newSource(o, caLife, leafLife) }

func newSource(o Options, caLife, leafLife time.Duration) (*Source, error) {
	if err := o.find(); err != nil {
		return nil, err
	}
	s := &Source{options: o, trust: new(trust)}
	o.API = rest.CopyConfig(o.API)
	o.API.Wrap(func(next http.RoundTripper) http.RoundTripper { return clockReader{next, s.trust} })
	var err error
	if s.client, err = kubernetes.NewForConfig(o.API); err != nil {
		return nil, fmt.Errorf("the API server: %w", err)
	}
	s.authority = &authority.DynamicAuthority{
		SecretNamespace: o.Namespace,
		SecretName:      o.Secret,
		RESTConfig:      o.API,
		CommonName:      "culvert-injector",
		CADuration:      caLife,
		LeafDuration:    leafLife,
	}
	s.source = &cmtls.DynamicSource{
		DNSNames:      []string{o.Service + "." + o.Namespace + ".svc"}, // by which the API server calls it
		Authority:     &published{s.authority, s.trust},
		RetryInterval: retryEvery,
	}
	return s, nil
}

// Run makes and renews the certificate until the context ends.
func (s *Source) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.publish(ctx) })
	err := s.source.Start(logr.NewContext(ctx, logr.FromSlogHandler(errorsOnly{s.options.Log.Handler()})))
	cancel()
	running.Wait()
	return err
}

// Certificate returns the serving certificate, also after the end of Run. It returns
// an error until the first one is made and trusted, and when the last one has expired.
func (s *Source) Certificate() (*tls.Certificate, error) {
	c, err := s.source.GetCertificate(nil)
	if err == nil {
		return s.serve(c)
	}
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	if s.trust.problem != nil {
		return nil, fmt.Errorf("%w: %w", errNotYet, s.trust.problem)
	}
	return nil, errNotYet
}

// serve returns the newest certificate, or the one before it until the newest has settled.
// Without an earlier one, the newest is served as soon as the API server's clock accepts it.
func (s *Source) serve(c *tls.Certificate) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if behind := s.trust.early(c.Leaf); s.served == nil && behind > 0 {
		return nil, fmt.Errorf("%w: it will be in %v; set the clocks of the nodes", errClock, behind.Round(time.Second))
	}
	if s.served == nil || s.trust.settled(c.Leaf) || now.After(s.served.Leaf.NotAfter) {
		s.served = c
	}
	if now.After(s.served.Leaf.NotAfter) {
		return nil, errors.New("the serving certificate has expired")
	}
	return s.served, nil
}

// errorsOnly drops the library's other lines: they name cert-manager, and this
// package's own say what matters.
type errorsOnly struct{ slog.Handler }

func (h errorsOnly) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h errorsOnly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return errorsOnly{h.Handler.WithAttrs(attrs)}
}

func (h errorsOnly) WithGroup(name string) slog.Handler { return errorsOnly{h.Handler.WithGroup(name)} }
