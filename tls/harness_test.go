package proxytls

import (
	"context"
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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An authority signs what tests need.
type authority struct {
	t    testing.TB
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	return newAuthorityOf(t, name, pkix.Name{CommonName: name})
}

func newAuthorityOf(t testing.TB, name string, subject pkix.Name) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: subject, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	key := newKey(t)
	a := &authority{t: t, name: name, key: key}
	a.cert = a.sign(template, template, key)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// between makes an authority that this one has signed.
func (a *authority) between(name string) *authority {
	a.t.Helper()
	b := &authority{t: a.t, name: name, key: newKey(a.t)}
	b.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}, a.cert, b.key)
	return b
}

// issue makes a certificate for names and IP addresses, whose first is also
// its common name.
func (a *authority) issue(life time.Duration, names ...string) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life)}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return a.issueFrom(template)
}

// issueFrom makes a certificate of what the template names.
func (a *authority) issueFrom(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leaf := a.sign(template, a.cert, key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// write writes a certificate and its key into the folder, as NAME.pem and
// NAME.key, each by an atomic rename.
func write(t testing.TB, folder, name string, cert tls.Certificate) Pair {
	t.Helper()
	p := Pair{Cert: filepath.Join(folder, name+".pem"), Key: filepath.Join(folder, name+".key"), ConfigKey: "tls"}
	writeFile(t, p.Cert, certPEM(cert.Leaf))
	writeFile(t, p.Key, keyPEM(t, cert))
	return p
}

func certPEM(certs ...*x509.Certificate) []byte {
	var all []byte
	for _, c := range certs {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return all
}

func keyPEM(t testing.TB, cert tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// writeCA writes the certificates of authorities as one file.
func writeCA(t testing.TB, folder string, authorities ...*authority) string {
	t.Helper()
	var certs []*x509.Certificate
	for _, a := range authorities {
		certs = append(certs, a.cert)
	}
	name := filepath.Join(folder, "ca-"+authorities[0].name+".pem")
	writeFile(t, name, certPEM(certs...))
	return name
}

// provider makes a Provider that ends with the test, and what it tells.
func provider(t testing.TB, o Options) (*Provider, *story) {
	t.Helper()
	s := &story{}
	o.Certificate, o.Problem, o.Mended = s.certificate, s.problem, s.mended
	if o.ConfigKey == "" {
		o.ConfigKey = "tls"
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, s
}

// A story is what a Provider told.
type story struct {
	mu           sync.Mutex
	certificates []Certificate
	problems     []string
	ends         []string
}

func (s *story) certificate(c Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certificates = append(s.certificates, c)
}

func (s *story) problem(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, err.Error())
}

func (s *story) mended(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, err.Error())
}

// wrong are the problems that were told of, right those that were mended.
func (s *story) wrong() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

func (s *story) right() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ends)
}

func (s *story) counts() (certificates, problems, ends int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.certificates), len(s.problems), len(s.ends)
}

// handshake connects a client to a server and says one word through it: only
// then does a client of TLS 1.3 know whether it was let in. Both ends' states
// come back.
func handshake(t testing.TB, server, client *tls.Config) (seen, served tls.ConnectionState, err error) {
	t.Helper()
	c, s := connected(t)
	defer c.Close()
	defer s.Close()
	serverConn := tls.Server(s, server)
	done := make(chan error, 1)
	go func() {
		err := serverConn.HandshakeContext(context.Background())
		if err == nil {
			_, err = serverConn.Write([]byte("x"))
		}
		if err != nil {
			_ = s.Close()
		}
		done <- err
	}()
	clientConn := tls.Client(c, client)
	_, clientErr := clientConn.Read(make([]byte, 1))
	if clientErr != nil {
		_ = c.Close()
	}
	serverErr := <-done
	return clientConn.ConnectionState(), serverConn.ConnectionState(), errors.Join(clientErr, serverErr)
}

// connected returns both ends of a connection. It is one of the kernel: a pipe
// in memory holds nothing, so that both ends can wait for each other.
func connected(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func poolFor(authorities ...*authority) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range authorities {
		pool.AddCert(a.cert)
	}
	return pool
}

// shown is the common name of the certificate that a client that asks for a
// name is shown.
func shown(t testing.TB, p *Provider, ca *authority, name string) string {
	t.Helper()
	seen, _, err := handshake(t, p.Config(), &tls.Config{ServerName: name, RootCAs: poolFor(ca), InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return seen.PeerCertificates[0].Subject.CommonName
}

// as is a client's configuration with a certificate.
func as(ca *authority, name string, certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: poolFor(ca), ServerName: name, Certificates: certs}
}

// says reports whether text has the parts of want, which are separated by
// " … ". Text begins with the first part. The others stand behind it, in any
// order: the prose between them can change.
func says(text, want string) bool {
	parts := strings.Split(want, " … ")
	rest, found := strings.CutPrefix(text, parts[0])
	return found && !slices.ContainsFunc(parts[1:], func(part string) bool { return !strings.Contains(rest, part) })
}

// sayAll reports whether each text says what its want has.
func sayAll(texts, wants []string) bool {
	return slices.EqualFunc(texts, wants, says)
}
