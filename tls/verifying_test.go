package proxytls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

// TestVerifyingUsesTheFilesAsTheyAre: one configuration for many handshakes follows the files,
// and refuses what the standard verification refuses.
func TestVerifyingUsesTheFilesAsTheyAre(t *testing.T) {
	ca, next, dir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir()
	pair := write(t, dir, "client", ca.issue(time.Hour, "old"))
	c, err := NewClient(ClientOptions{CA: writeCA(t, dir, ca), Cert: pair.Cert, Key: pair.Key, ConfigKey: "auth.external.tls"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	config := c.Verifying("auth.example")
	shows := func(server tls.Certificate) (name string, err error) {
		_, served, err := handshake(t, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert}, config)
		if err != nil {
			return "", err
		}
		return served.PeerCertificates[0].Subject.CommonName, nil
	}
	if got, err := shows(ca.issue(time.Hour, "auth.example")); got != "old" || err != nil {
		t.Errorf("at first: %q, %v", got, err)
	}
	for what, server := range map[string]tls.Certificate{
		"another authority": next.issue(time.Hour, "auth.example"),
		"another name":      ca.issue(time.Hour, "other.example"),
		"an expired one":    ca.issue(-time.Hour, "auth.example"),
	} {
		_, err := shows(server)
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("%s: %v, want an error of the verification", what, err)
		}
	}

	write(t, dir, "client", next.issue(time.Hour, "new"))
	writeCA(t, dir, next)
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	if got, err := shows(next.issue(time.Hour, "auth.example")); got != "new" || err != nil {
		t.Errorf("after the change: %q, %v", got, err)
	}
	_, err = shows(ca.issue(time.Hour, "auth.example"))
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("the old authority: %v, want that it is unknown", err)
	}
}

// TestVerifyingWithoutFiles shows no certificate, and believes the system's authorities.
func TestVerifyingWithoutFiles(t *testing.T) {
	c, err := NewClient(ClientOptions{ConfigKey: "auth.external.tls"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ca := newAuthority(t, "ca")
	_, _, err = handshake(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(time.Hour, "auth.example")}, ClientAuth: tls.RequestClientCert}, c.Verifying("auth.example"))
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("got %v, want that the authority is unknown", err)
	}
}
