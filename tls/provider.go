package proxytls

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

// A Provider has the certificates of a listener, or of several. Its methods
// may be called concurrently.
type Provider struct {
	opts      Options
	config    *tls.Config
	challenge *tls.Config // for ChallengeProtos
	now       atomic.Pointer[set]
	watcher   *watcher
}

// protocols are the protocols that ALPN always offers: a client that offers neither
// gets HTTP/1.1, and its WebSocket.
var protocols = []string{"h2", "http/1.1"}

var errNoCertificate = errors.New("no certificate")

// New loads the files in the options and returns a Provider that loads them again
// when a file changes, until Close. The error has a line, a KeyError, for each
// fault.
func New(o Options) (*Provider, error) {
	if len(o.Certificates) == 0 && o.Fallback == nil {
		return nil, errNoCertificate
	}
	o.MinVersion = cmp.Or(o.MinVersion, tls.VersionTLS12)
	p := &Provider{opts: o}
	p.config = &tls.Config{
		MinVersion:         o.MinVersion,
		NextProtos:         protocols,
		GetConfigForClient: p.configFor,
		GetCertificate:     p.certificateFor, // crypto/tls requires one
	}
	p.challenge = &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             o.ChallengeProtos,
		SessionTicketsDisabled: true,
		GetCertificate:         o.Fallback,
	}
	p.watcher = &watcher{files: o.files(), load: p.load, state: p.state, certificate: o.Certificate, problem: o.Problem, mended: o.Mended}
	if err := p.watcher.start(); err != nil {
		return nil, err
	}
	return p, nil
}

// Config returns the configuration for a listener. It stays the same through every
// reload: the certificates behind it change.
func (p *Provider) Config() *tls.Config { return p.config }

// Reload loads the files now, changed or not. If the error isn't nil, nothing has
// changed.
func (p *Provider) Reload() error { return p.watcher.reload() }

// Problems returns the current problems: files that could not be loaded, whose
// earlier contents stay in use, and certificates and lists that are out of date.
func (p *Provider) Problems() []error { return p.watcher.current() }

// Close stops watching the files. Config still works.
func (p *Provider) Close() { p.watcher.close() }

// SamePolicy reports whether a connection and a host have the same rules for client
// certificates. The connection is identified by its SNI and the local address that
// the client connected to. If not, the connection must carry no request for that
// host. RFC 9110 §7.4.
func (p *Provider) SamePolicy(sni string, local net.Addr, host string) bool {
	s := p.now.Load()
	return s.connectionPolicy(sni, local).key == s.hostPolicy(host).key
}

// Serves reports whether a certificate of a file is for the host, a name or an
// address.
func (p *Provider) Serves(host string) bool { return len(p.now.Load().named(host)) > 0 }

func (p *Provider) load(c contents) error {
	s, err := newSet(p.opts, c)
	if err != nil {
		return err
	}
	for _, policy := range s.policies {
		policy.config = &tls.Config{
			MinVersion:       p.opts.MinVersion,
			NextProtos:       protocols,
			GetCertificate:   p.certificateFor,
			ClientCAs:        policy.pool,
			ClientAuth:       policy.auth(),
			VerifyConnection: policy.verify,
		}
		policy.rotateTicketKeys(time.Now())
	}
	p.now.Store(s)
	return nil
}

// state returns the certificates in use, and the problems that come with time.
func (p *Provider) state(now time.Time) (certificates []Certificate, problems []error) {
	s := p.now.Load()
	for _, policy := range s.policies {
		policy.rotateTicketKeys(now)
	}
	for _, pair := range s.pairs {
		certificates = append(certificates, pair.fact)
	}
	return certificates, append(outOfTime(certificates, now), s.crls.outdated(now)...)
}

func (p *Provider) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) == 1 && slices.Contains(p.opts.ChallengeProtos, hello.SupportedProtos[0]) {
		return p.challenge, nil
	}
	return p.now.Load().connectionPolicy(hello.ServerName, hello.Conn.LocalAddr()).config, nil
}

// certificateFor returns the certificate for a client, and tells a connection that wants to
// know, as those of package bridge do.
func (p *Provider) certificateFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := p.selectFor(hello)
	if c, ok := hello.Conn.(interface{ ShowsCertificate(shown *tls.Certificate) }); ok && err == nil {
		c.ShowsCertificate(cert)
	}
	return cert, err
}

func (p *Provider) selectFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := p.now.Load()
	if selected := s.selected(hello.ServerName, hello.Conn.LocalAddr()); len(selected) > 0 {
		return supported(hello, selected), nil
	}
	err := errNoCertificate
	if p.opts.Fallback != nil && (hello.ServerName != "" || len(s.first) == 0) {
		var cert *tls.Certificate
		if cert, err = p.opts.Fallback(hello); err == nil {
			return cert, nil
		}
	}
	if len(s.first) > 0 {
		unnamed := *hello
		unnamed.ServerName = "" // none of them is for it
		return supported(&unnamed, s.first), nil
	}
	return nil, err
}

// supported returns the first certificate that the client can check, or else the
// first one: crypto/tls then reports what the client lacks.
func supported(hello *tls.ClientHelloInfo, pairs []*pair) *tls.Certificate {
	for _, pair := range pairs {
		if hello.SupportsCertificate(&pair.cert) == nil {
			return &pair.cert
		}
	}
	return &pairs[0].cert
}
