package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
)

// settle is how long a new CA is in the caBundle, and how old a certificate is, before a
// replica serves it instead of an earlier one. Each API server hears of the change after
// some time, usually under a second, and its clock may be behind.
const settle = 30 * time.Second

// A published authority signs only with a CA that is in the caBundle. The library asks
// again until it does.
type published struct {
	cmtls.Authority
	trust *trust
}

// Sign implements the library's interface.
func (p *published) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	leaf, err := p.Authority.Sign(template)
	if err != nil {
		return nil, err
	}
	if err := p.trust.accepts(leaf); err != nil {
		return nil, fmt.Errorf("%w: %w", authority.ErrCertificateNotAvailable, err)
	}
	return leaf, nil
}

// trust is what is known about the API servers' trust.
type trust struct {
	mu      sync.Mutex
	ca      *x509.Certificate // the newest one in the caBundle
	since   time.Time         // when it was first seen there
	problem error             // why the caBundle can't be kept
	behind  time.Duration     // of the API server's clock, when it last answered
}

// A clockReader tells how far the clock of the API server is behind. A certificate begins
// at the time of the replica that makes it, so a server with another time may refuse it.
type clockReader struct {
	next  http.RoundTripper
	trust *trust
}

// RoundTrip implements [http.RoundTripper].
func (c clockReader) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		c.trust.mu.Lock()
		c.trust.behind = max(time.Since(date), 0)
		c.trust.mu.Unlock()
	}
	return res, nil
}

// WrappedRoundTripper is for client-go, which looks for the transport.
func (c clockReader) WrappedRoundTripper() http.RoundTripper { return c.next }

// published notes that the caBundle has the CA, and whether it got it just now.
func (t *trust) published(ca *x509.Certificate, now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ca == nil || !t.ca.Equal(ca) || now {
		t.ca, t.since = ca, time.Now()
	}
}

// accepts returns an error if no API server can trust the certificate yet.
func (t *trust) accepts(leaf *x509.Certificate) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ca == nil || leaf.CheckSignatureFrom(t.ca) != nil {
		return errors.New("the API server doesn't trust its CA yet")
	}
	return nil
}

// settled reports whether all API servers accept the certificate.
func (t *trust) settled(leaf *x509.Certificate) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.since) >= settle && time.Since(leaf.NotBefore)-t.behind >= settle
}

// early returns for how long the API server's clock refuses the certificate or its CA.
func (t *trust) early(leaf *x509.Certificate) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	begins := leaf.NotBefore
	if t.ca != nil && t.ca.NotBefore.After(begins) {
		begins = t.ca.NotBefore
	}
	return t.behind - time.Since(begins)
}
