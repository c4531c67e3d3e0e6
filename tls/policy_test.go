package proxytls

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
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
		if got := p.SamePolicy(c.sni, nil, c.host); got != c.same {
			t.Errorf("SamePolicy(%q, %q) is %v", c.sni, c.host, got)
		}
	}
}

// SNI carries no IP address: the address that the client connected to selects
// the certificate, and its policy.
func TestPolicyGoesByTheAddressConnectedTo(t *testing.T) {
	ca, own, dir := newAuthority(t, "ca"), newAuthority(t, "own"), t.TempDir()
	open := write(t, dir, "open", ca.issue(time.Hour, "open.example"))
	closed := write(t, dir, "closed", ca.issue(time.Hour, "closed.example", "127.0.0.1", "2001:db8::1"))
	closed.ClientCA = writeCA(t, dir, own)
	p, _ := provider(t, Options{Certificates: []Pair{open, closed}})
	known := own.issue(time.Hour, "client")
	for _, c := range []struct {
		sni    string
		cert   []tls.Certificate
		served string // common name of what it is shown; "" if it is refused
	}{
		{"", nil, ""},
		{"", []tls.Certificate{known}, "closed.example"},
		{"", []tls.Certificate{ca.issue(time.Hour, "client")}, ""},
		{"open.example", nil, "open.example"},
		{"nobody.example", nil, "open.example"},
	} {
		client := as(ca, c.sni, c.cert...)
		client.InsecureSkipVerify = true
		seen, _, err := handshake(t, p.Config(), client)
		shown := ""
		if err == nil {
			shown = seen.PeerCertificates[0].Subject.CommonName
		}
		if shown != c.served {
			t.Errorf("SNI %q with %d certificates is shown %q, want %q: %v", c.sni, len(c.cert), shown, c.served, err)
		}
	}
	for _, c := range []struct {
		sni, local, host string
		same             bool
	}{
		{"", "127.0.0.1", "127.0.0.1", true},
		{"", "127.0.0.1", "closed.example:8443", true},
		{"", "127.0.0.1", "open.example", false},
		{"", "::ffff:127.0.0.1", "127.0.0.1:8443", true},
		{"", "2001:db8::1", "[2001:DB8:0::1]:8443", true},
		{"", "2001:db8::1", "[2001:db8::1]", true},
		// An address of no pair, as behind NAT: the first pair's policy.
		{"", "10.0.0.1", "open.example", true},
		{"", "10.0.0.1", "10.0.0.1", true},
		{"", "10.0.0.1", "127.0.0.1", false},
		{"", "10.0.0.1", "127.0.0.1.:8443", false},
		{"", "10.0.0.1", "[::ffff:127.0.0.1]:8443", false},
		{"", "10.0.0.1", "[2001:db8:0:0::1]", false},
		{"", "10.0.0.1", "closed.example", false},
		{"", "", "127.0.0.1", false}, // a unix socket
		{"open.example", "127.0.0.1", "127.0.0.1", false},
		{"open.example", "127.0.0.1", "open.example", true},
		{"closed.example", "127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "10.0.0.1", "127.0.0.1", true}, // against RFC 6066, and it is asked for a certificate
	} {
		var local net.Addr = &net.UnixAddr{}
		if c.local != "" {
			local = &net.TCPAddr{IP: net.ParseIP(c.local), Port: 8443}
		}
		if got := p.SamePolicy(c.sni, local, c.host); got != c.same {
			t.Errorf("SamePolicy(%q, %v, %q) is %v", c.sni, local, c.host, got)
		}
	}
}

// A client without SNI is shown the first pair, and authenticated as that pair
// says, also where another source has certificates for other names.
func TestFirstPairIsForClientsWithoutSNI(t *testing.T) {
	ca, own, dir := newAuthority(t, "ca"), newAuthority(t, "own"), t.TempDir()
	closed, fetched := write(t, dir, "closed", ca.issue(time.Hour, "closed.example")), ca.issue(time.Hour, "fetched.example")
	closed.ClientCA = writeCA(t, dir, own)
	p, _ := provider(t, Options{
		Certificates: []Pair{closed},
		Fallback:     func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &fetched, nil },
	})
	if _, _, err := handshake(t, p.Config(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a client without SNI and certificate is let in")
	}
	client := as(ca, "", own.issue(time.Hour, "client"))
	client.InsecureSkipVerify = true
	if seen, _, err := handshake(t, p.Config(), client); err != nil || seen.PeerCertificates[0].Subject.CommonName != "closed.example" {
		t.Errorf("a client without SNI: %v", err)
	}
	if got := shown(t, p, ca, "fetched.example"); got != "fetched.example" {
		t.Errorf("fetched.example is shown %s", got)
	}
}

func TestPairThatNoClientSelectsIsAnError(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	uri, err := url.Parse("spiffe://example/closed")
	if err != nil {
		t.Fatal(err)
	}
	first := write(t, dir, "first", ca.issue(time.Hour, "a.example"))
	for what, c := range map[string]struct {
		template *x509.Certificate
		good     bool
	}{
		"common name":      {&x509.Certificate{Subject: pkix.Name{CommonName: "closed.example"}}, false},
		"URI":              {&x509.Certificate{URIs: []*url.URL{uri}}, false},
		"mail":             {&x509.Certificate{EmailAddresses: []string{"a@closed.example"}}, false},
		"inner wildcard":   {&x509.Certificate{DNSNames: []string{"a.*.example"}}, false},
		"partial wildcard": {&x509.Certificate{DNSNames: []string{"a*.example"}}, false},
		"bare wildcard":    {&x509.Certificate{DNSNames: []string{"*"}}, false},
		"two wildcards":    {&x509.Certificate{DNSNames: []string{"*.*.example"}}, false},
		"wildcard":         {&x509.Certificate{DNSNames: []string{"*.b.example"}}, true},
		"IPv4":             {&x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, true},
		"IPv6":             {&x509.Certificate{IPAddresses: []net.IP{net.IPv6loopback}}, true},
		"URI and name":     {&x509.Certificate{URIs: []*url.URL{uri}, DNSNames: []string{"b.example"}}, true},
	} {
		second := write(t, dir, "second", ca.issueFrom(c.template))
		second.ConfigKey = "tls.certificates[0]"
		p, err := New(Options{Certificates: []Pair{first, second}, ConfigKey: "tls"})
		if err == nil {
			p.Close()
		}
		if (err == nil) != c.good || err != nil && !says(err.Error(), "tls.certificates[0].cert: "+second.Cert+": … select … subjectAltName") {
			t.Errorf("%s: %v", what, err)
		}
		// The first is for every client that selects none.
		if p, err = New(Options{Certificates: []Pair{second, first}, ConfigKey: "tls"}); err != nil {
			t.Errorf("%s, as the first: %v", what, err)
			continue
		}
		p.Close()
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
