package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// tlsPatience is for what another program does on a busy machine: files are
// looked at every 5 s.
const tlsPatience = patience

// An issuer is an authority of tests.
type issuer struct {
	t    testing.TB
	dir  string
	file string // its certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var lastSerial atomic.Int64

func newIssuer(t testing.TB, name string) *issuer {
	t.Helper()
	i := &issuer{t: t, dir: t.TempDir()}
	i.key = newECKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	i.cert = i.sign(template, template, i.key)
	i.file = filepath.Join(i.dir, name+".pem")
	replaceFile(t, i.file, pemOf("CERTIFICATE", i.cert.Raw))
	return i
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i *issuer) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	i.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return cert
}

// issue makes a certificate for servers and clients with a common name, and
// for 127.0.0.1 and names.
func (i *issuer) issue(commonName string, names ...string) tls.Certificate {
	i.t.Helper()
	return i.issueFor(commonName, append(slices.Clone(names), "127.0.0.1")...)
}

// issueFor is issue for names and IP addresses, and nothing else.
func (i *issuer) issueFor(commonName string, names ...string) tls.Certificate {
	i.t.Helper()
	key := newECKey(i.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + lastSerial.Add(1)), Subject: pkix.Name{CommonName: commonName},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/" + commonName}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(900 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	leaf := i.sign(template, i.cert, key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// revoke writes a list of certificates that the issuer no longer vouches for.
func (i *issuer) revoke(name string, revoked ...tls.Certificate) {
	i.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.cert, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	replaceFile(i.t, name, pemOf("X509 CRL", der))
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writePair writes NAME.pem and NAME.key.
func writePair(t testing.TB, dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	replaceFile(t, certFile, pemOf("CERTIFICATE", cert.Certificate[0]))
	replaceFile(t, keyFile, pemOf("PRIVATE KEY", key))
	return certFile, keyFile
}

// replaceFile puts a file in place with one step, as careful programs do.
func replaceFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// trusting is a client's configuration that trusts the issuer, with
// certificates of its own.
func (i *issuer) trusting(certs ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(i.cert)
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", Certificates: certs, MinVersion: tls.VersionTLS12}
}

// named is the same for a client that asks for a name.
func named(config *tls.Config, name string) *tls.Config {
	config = config.Clone()
	config.ServerName = name
	return config
}

// dialTLS connects to culvert over TLS. The connection ends with the test.
func dialTLS(t testing.TB, transport wire.Transport, address string, config *tls.Config) *wire.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	conn, err := wire.DialTLS(ctx, transport, address, config)
	if err != nil {
		t.Fatalf("%s: %v", transport, err)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Minute)) // no test takes so long: one that hangs shall fail
	t.Cleanup(conn.Close)
	return conn
}

// worksTLS makes one ordinary call over a new connection.
func worksTLS(t testing.TB, transport wire.Transport, address string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	conn, err := wire.DialTLS(ctx, transport, address, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(tlsPatience))
	return unary(ctx, conn, newID(t))
}

// shownTo is the common name of the certificate that a new connection is shown.
func shownTo(address string, config *tls.Config) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// awaitShown waits until new connections are shown a certificate.
func awaitShown(t testing.TB, address string, config *tls.Config, want string) {
	t.Helper()
	if err := eventually(tlsPatience, func() error {
		got, err := shownTo(address, config)
		if err == nil && got != want {
			err = fmt.Errorf("it is shown %s", got)
		}
		return err
	}); err != nil {
		t.Fatalf("the certificate of %s: %v", want, err)
	}
}

// awaitLogged waits for a log line, longer than logged does: for what culvert
// notices when it looks.
func (c *culvert) awaitLogged(t testing.TB, wanted func(line map[string]any) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	if _, _, err := c.output.find(ctx, 0, func(text string) bool {
		var line map[string]any
		return json.Unmarshal([]byte(text), &line) == nil && wanted(line)
	}); err != nil {
		t.Fatalf("culvert's log: %v", err)
	}
}

// readyz returns what /readyz says.
func (c *culvert) readyz() (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.health+"/readyz", nil)
	if err != nil {
		return 0, "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// awaitReadyz waits for what /readyz says.
func (c *culvert) awaitReadyz(t testing.TB, says func(body string) bool) {
	t.Helper()
	if err := eventually(tlsPatience, func() error {
		code, body, err := c.readyz()
		if err == nil && (code != http.StatusOK || !says(body)) {
			err = errors.New(body)
		}
		return err
	}); err != nil {
		t.Fatalf("/readyz: %v", err)
	}
}

// getOverTLS sends a GET with a host of its own and returns the status. With
// TLS 1.3 only an answer shows that a client was let in.
func getOverTLS(address string, config *tls.Config, host string) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(tlsPatience)) // a test that hangs shall fail
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close() // the status is all
	return resp.StatusCode, nil
}
