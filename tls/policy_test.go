package proxytls

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// clients is what three kinds of client make of a server: one without a
// certificate, one whose authority is known, one whose isn't.
func TestClientsAreAskedAsThePolicySays(t *testing.T) {
	ca, stranger, dir := newAuthority(t, "ca"), newAuthority(t, "stranger"), t.TempDir()
	pair := write(t, dir, "a", ca.issue(time.Hour, "a.example"))
	known, unknown, expired := ca.issue(time.Hour, "client"), stranger.issue(time.Hour, "client"), ca.issue(-time.Second, "client")
	for _, c := range []struct {
		auth   ClientAuth
		served []bool // without, known, unknown, expired
	}{
		{None, []bool{true, true, true, true}},
		{Optional, []bool{true, true, false, false}},
		{Require, []bool{false, true, false, false}},
		{"", []bool{false, true, false, false}}, // a CA is there to be used
	} {
		p, _ := provider(t, Options{Certificates: []Pair{pair}, ClientCA: writeCA(t, dir, ca), ClientAuth: c.auth})
		for i, certs := range [][]tls.Certificate{nil, {known}, {unknown}, {expired}} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				client := as(ca, "a.example")
				client.MaxVersion = version
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(certs) > 0 {
						return &certs[0], nil // one that it wasn't asked for, too
					}
					return new(tls.Certificate), nil
				}
				_, served, err := handshake(t, p.Config(), client)
				if (err == nil) != c.served[i] {
					t.Errorf("%q, client %d, %s: %v", c.auth, i, tls.VersionName(version), err)
				}
				if err == nil && c.auth != None && len(certs) > 0 && len(served.VerifiedChains) == 0 {
					t.Errorf("%q, client %d: its certificate isn't known to be verified", c.auth, i)
				}
			}
		}
	}
}

func TestPolicyGoesByTheNameAskedFor(t *testing.T) {
	ca, own, dir := newAuthority(t, "ca"), newAuthority(t, "own"), t.TempDir()
	open := write(t, dir, "open", ca.issue(time.Hour, "open.example"))
	closed := write(t, dir, "closed", ca.issue(time.Hour, "closed.example", "also.example"))
	closed.ClientCA = writeCA(t, dir, own)
	p, _ := provider(t, Options{Certificates: []Pair{open, closed}})
	for _, c := range []struct {
		name   string
		cert   []tls.Certificate
		served bool
	}{
		{"open.example", nil, true},
		{"closed.example", nil, false},
		{"also.example", []tls.Certificate{own.issue(time.Hour, "client")}, true},
		{"closed.example", []tls.Certificate{ca.issue(time.Hour, "client")}, false},
	} {
		if _, _, err := handshake(t, p.Config(), as(ca, c.name, c.cert...)); (err == nil) != c.served {
			t.Errorf("%s with %d certificates: %v", c.name, len(c.cert), err)
		}
	}
	for _, c := range []struct {
		sni, host string
		same      bool
	}{
		{"open.example", "open.example", true},
		{"closed.example", "also.example:8443", true},
		{"closed.example", "CLOSED.example.", true},
		{"open.example", "closed.example", false},
		{"open.example", "closed.example:443", false},
		{"closed.example", "open.example", false},
		{"closed.example", "other.example", false}, // as the first
		{"", "open.example", true},
		{"", "[::1]:8443", true},
		{"closed.example", "10.0.0.1:8443", false},
	} {
		if got := p.SamePolicy(c.sni, c.host); got != c.same {
			t.Errorf("SamePolicy(%q, %q) is %v", c.sni, c.host, got)
		}
	}
}

// A resumption is how a client comes back without showing its certificate
// again.
type resumption struct {
	*testing.T
	p      *Provider
	client *tls.Config
}

func newResumption(t *testing.T, p *Provider, ca *authority, name string, cert ...tls.Certificate) *resumption {
	t.Helper()
	r := &resumption{t, p, as(ca, name, cert...)}
	r.client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	return r
}

func (r *resumption) connect() (resumed bool, err error) {
	r.Helper()
	_, served, err := handshake(r.T, r.p.Config(), r.client)
	return served.DidResume, err
}

func TestSessionsAreResumed(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	for _, auth := range []ClientAuth{None, Require} {
		p, _ := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca), ClientAuth: auth})
		r := newResumption(t, p, ca, "a.example", ca.issue(time.Hour, "client"))
		if _, err := r.connect(); err != nil {
			t.Fatal(err)
		}
		if resumed, err := r.connect(); err != nil || !resumed {
			t.Errorf("%s: resumed is %v, %v", auth, resumed, err)
		}
	}
}

func TestSessionIsNotResumedUnderAnotherAuthority(t *testing.T) {
	ca, next, dir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir()
	p, _ := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca)})
	r := newResumption(t, p, ca, "a.example", ca.issue(time.Hour, "client"))
	if _, err := r.connect(); err != nil {
		t.Fatal(err)
	}
	writeCA(t, dir, next)
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if resumed, err := r.connect(); err == nil {
		t.Errorf("served (resumed: %v), though its authority is no longer one", resumed)
	}
}

// Both clients ask for the same session cache key, the server's name.
func TestSessionIsNotResumedUnderAnotherPolicy(t *testing.T) {
	ca, own, dir := newAuthority(t, "ca"), newAuthority(t, "own"), t.TempDir()
	open := write(t, dir, "open", ca.issue(time.Hour, "open.example", "closed.example"))
	open.ConfigKey = "tls"
	for _, auth := range []ClientAuth{None, Optional} {
		closed := write(t, dir, "closed", ca.issue(time.Hour, "other.example"))
		closed.ClientCA, closed.ClientAuth = writeCA(t, dir, own), Require
		first := open
		first.ClientCA, first.ClientAuth = writeCA(t, dir, ca), auth
		p, _ := provider(t, Options{Certificates: []Pair{first, closed}})
		cache := tls.NewLRUClientSessionCache(1)
		client := as(ca, "open.example", ca.issue(time.Hour, "client"))
		client.ClientSessionCache = sameSession{cache}
		if _, _, err := handshake(t, p.Config(), client); err != nil {
			t.Fatal(err)
		}
		client = as(ca, "other.example")
		client.ClientSessionCache = sameSession{cache}
		if _, served, err := handshake(t, p.Config(), client); err == nil {
			t.Errorf("%s: served, resumed %v, under a policy that requires another certificate", auth, served.DidResume)
		}
	}
}

// sameSession offers every server the session of any.
type sameSession struct{ tls.ClientSessionCache }

func (s sameSession) Get(string) (*tls.ClientSessionState, bool) { return s.ClientSessionCache.Get("") }

func (s sameSession) Put(_ string, state *tls.ClientSessionState) {
	s.ClientSessionCache.Put("", state)
}

func TestTicketKeysTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		p, _ := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(1000*time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca)})
		keys := func() [][32]byte {
			p.watcher.mu.Lock()
			defer p.watcher.mu.Unlock()
			return p.now.Load().unnamed.ticketKeys
		}
		first := keys()
		time.Sleep(ticketKeyLife + lookEvery)
		synctest.Wait()
		second := keys()
		time.Sleep(ticketKeyLife + lookEvery)
		synctest.Wait()
		third := keys()
		if len(first) != 1 || len(second) != 2 || len(third) != 2 || second[1] != first[0] || third[1] != second[0] || slices.Contains(third, first[0]) {
			t.Errorf("%d, %d and %d keys, which don't follow each other", len(first), len(second), len(third))
		}
	})
}

func TestRefusalOfAClientNamesItsKey(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	client := ca.issue(time.Hour, "client")
	p, _ := provider(t, Options{
		Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca),
		CRLs: []string{writeCRL(t, dir, ca, time.Now().Add(time.Hour), client)},
	})
	_, _, err := handshake(t, p.Config(), as(ca, "a.example", client))
	if !errors.Is(err, errRevoked) || !strings.Contains(err.Error(), "tls.crls") {
		t.Errorf("a revoked certificate: %v", err)
	}
}
