// Package authority makes certificates for tests. It imports the standard library alone, so
// that the tests of other modules can use it.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"testing"
	"time"
)

// An Authority makes certificates for tests. The zero one's sign themselves.
type Authority struct {
	Pool *x509.CertPool // has its certificate alone

	pair tls.Certificate
}

// New returns an Authority with a certificate of its own.
func New(t testing.TB) *Authority {
	t.Helper()
	a, err := Make()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Make is New, from any goroutine.
func Make() (*Authority, error) {
	a := &Authority{Pool: x509.NewCertPool()}
	pair, err := a.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	if err != nil {
		return nil, err
	}
	a.pair = pair
	a.Pool.AddCert(pair.Leaf)
	return a, nil
}

// Pair returns its own certificate.
func (a *Authority) Pair() tls.Certificate { return a.pair }

// PEM returns its certificate, as a file of CAs has it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.pair.Leaf.Raw})
}

// Sign makes a certificate like the template, good for an hour either way if that has no end.
func (a *Authority) Sign(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	cert, err := a.Issue(template)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Issue is Sign, from any goroutine.
func (a *Authority) Issue(template *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := template, key
	if a.pair.Leaf != nil {
		parent, signer = a.pair.Leaf, a.pair.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Server returns a certificate for loopback and the names.
func (a *Authority) Server(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	return a.Sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client returns a certificate of a client.
func (a *Authority) Client(t testing.TB) tls.Certificate {
	t.Helper()
	return a.Sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// Write writes a certificate and its key into files (PEM).
func Write(pair tls.Certificate, certFile, keyFile string) error {
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
	)
}
