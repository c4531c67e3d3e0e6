package docs

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
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// A corporation is the CA that issues the certificates in an example's files.
type corporation struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newCorporation(t testing.TB) *corporation {
	t.Helper()
	c := &corporation{serial: 1}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example Corp"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	c.key = newKey(t)
	c.cert = c.sign(t, template, template, c.key)
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *corporation) sign(t testing.TB, template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a certificate for a host and workloads.
func (c *corporation) issue(t testing.TB, host string, workloads ...*url.URL) tls.Certificate {
	t.Helper()
	c.serial++
	key := newKey(t)
	leaf := c.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(c.serial), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		URIs:      workloads,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(900 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, c.cert, key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// tlsFile matches the paths of an example's certificates and keys.
var tlsFile = regexp.MustCompile(`/(?:etc|var|run)/[\w./-]+\.(?:pem|crt|key)`)

// fill writes the files that an example names below dir. A file's name tells its
// contents, and its folder tells the certificate's host; a folder without a dot is
// for grpc.example.com.
func (c *corporation) fill(t testing.TB, dir, text string) {
	t.Helper()
	issued := map[string]tls.Certificate{}
	for _, file := range tlsFile.FindAllString(text, -1) {
		folder := filepath.Base(filepath.Dir(file))
		if !strings.Contains(folder, ".") {
			folder = "grpc.example.com"
		}
		if _, ok := issued[folder]; !ok {
			var workloads []*url.URL
			if strings.Contains(file, "spiffe") {
				workloads = []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/orders"}}
			}
			issued[folder] = c.issue(t, folder, workloads...)
		}
		if err := os.MkdirAll(filepath.Dir(dir+file), 0o700); err != nil {
			t.Fatal(err)
		}
		kind, der := "CERTIFICATE", issued[folder].Certificate[0]
		switch name := filepath.Base(file); {
		case name == "ca.pem" || name == "svid_bundle.pem":
			der = c.cert.Raw
		case name == "revoked.pem":
			kind, der = "X509 CRL", c.list(t)
		case strings.HasSuffix(name, ".key") || name == "privkey.pem" || name == "svid_key.pem":
			var err error
			kind = "PRIVATE KEY"
			if der, err = x509.MarshalPKCS8PrivateKey(issued[folder].PrivateKey); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(dir+file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// withKeys replaces the file of API keys in a configuration.
func withKeys(t testing.TB, text string) string {
	if !apiKeyFile.MatchString(text) {
		return text
	}
	return apiKeyFile.ReplaceAllString(text, "file: "+writeFile(t, "api-keys", "# none yet\n"))
}

func (c *corporation) list(t testing.TB) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}, c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// trusting is a client's configuration, with a certificate if there is one.
func (c *corporation) trusting(host string, certs ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(c.cert)
	return &tls.Config{RootCAs: roots, ServerName: host, Certificates: certs, MinVersion: tls.VersionTLS12}
}

var (
	adminTokenFile = regexp.MustCompile(`token: /etc/\S+`)
	apiKeyFile     = regexp.MustCompile(`file: /etc/\S+`)
)

// holdsCertificates reports whether a block of a configuration names files of
// certificates.
func holdsCertificates(b block) bool { return tlsFile.MatchString(b.text) }

// wantSecret compares a pod's description with the configuration beside it: the secret
// is mounted where the certificates are, and only its group can read it.
func wantSecret(t *testing.T, b block) {
	wantImageOwners(t, b)
	if !strings.Contains(b.text, "\n        defaultMode: 0440\n") || strings.Contains(b.text, "subPath") {
		t.Error("the secret isn't a folder of files with the mode 0440")
	}
	mounts := mountsOf(b)
	for _, p := range readPages(t) {
		for _, other := range p.blocks {
			if p.path != b.page || other.section != b.section || other.place() == b.place() {
				continue
			}
			files := tlsFile.FindAllString(other.text, -1)
			for _, file := range files {
				if !slices.Contains(mounts, filepath.Dir(file)) {
					t.Errorf("%s isn't in a volume: %q are mounted", file, mounts)
				}
			}
			if len(files) > 0 {
				return
			}
		}
	}
	t.Error("no configuration beside it has certificates")
}

// runTLS serves with an example and files like its own, calls through it, replaces
// the files and waits for the new certificate. If the example needs a backend, a
// proxy or something to authenticate by that isn't here, runTLS validates it only: the tests of
// e2e and e2e/identity run those.
func runTLS(t *testing.T, b block) {
	corp, dir := newCorporation(t), t.TempDir()
	corp.fill(t, dir, b.text)
	text := tlsFile.ReplaceAllStringFunc(b.text, func(file string) string { return dir + file })
	text = adminTokenFile.ReplaceAllString(text, "token: "+writeFile(t, "admin.token", "f3b1c2d4e5a697887766554433221100\n"))
	text = strings.ReplaceAll(text, "/var/run/secrets/kubernetes.io/serviceaccount/token", writeFile(t, "pod.token", "x\n")) // docs/guides/auth/kubernetes.md
	text = withKeys(t, text)
	file := writeFile(t, "proxy.yaml", text)
	said, err := output(t, dir, culvertProgram, "validate", "--partial", file)
	if err != nil || warns(said) {
		t.Errorf("culvert validate: %v\n%s", err, said)
	}
	if strings.Contains(text, "\nauth:") || !strings.Contains(text, "address: "+demoBackend) || !strings.Contains(text, `listen: ":443"`) || strings.Contains(text, "proxy_protocol") {
		return
	}
	startDemoBackend(t)
	p := startProcess(t, dir, culvertProgram, "serve", "--config", file)
	p.logged(t, "listening")
	hosts := []string{"grpc.example.com"}
	if strings.Contains(text, "app.example.com") {
		hosts = append(hosts, "app.example.com")
	}
	for _, host := range hosts {
		if err := callOverTLS(t, host+":443", corp.trusting(host, corp.issue(t, "client.example.com"))); err != nil {
			t.Errorf("a call to %s: %v", host, err)
		}
	}
	asks := strings.Contains(text, "client_ca")
	last := hosts[len(hosts)-1]
	if err := callOverTLS(t, last+":443", corp.trusting(last)); (err != nil) != asks {
		t.Errorf("a call to %s without a certificate: %v", last, err)
	}
	before := corp.serial
	corp.fill(t, dir, b.text)
	for deadline := time.Now().Add(time.Minute); ; {
		serial, err := shownSerial(t, corp.trusting("grpc.example.com", corp.issue(t, "client.example.com")))
		if err == nil && serial > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the new certificate isn't shown: %v", err)
		}
	}
	p.end(t)
}

func callOverTLS(t *testing.T, address string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	return errors.Join(err, cc.Close())
}

func shownSerial(t *testing.T, config *tls.Config) (int64, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", net.JoinHostPort(config.ServerName, "443"))
	if err != nil {
		return 0, err
	}
	serial := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	return serial, conn.Close()
}

// runOpenSSL runs openssl's commands, and serves with the files that they make.
func runOpenSSL(t *testing.T, b block) {
	dir := t.TempDir()
	if said, err := output(t, dir, shell(b.text)...); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	startDemoBackend(t)
	p := startProcess(t, dir, culvertProgram, "serve", "--backend", demoBackend, "--listen", ":443", "--tls-cert", "fullchain.pem", "--tls-key", "privkey.pem")
	p.logged(t, "listening")
	data, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	if err := callOverTLS(t, "grpc.example.com:443", &tls.Config{RootCAs: roots, ServerName: "grpc.example.com", MinVersion: tls.VersionTLS12}); err != nil {
		t.Error(err)
	}
	p.end(t)
}

// useSelfSigned starts culvert with a development certificate, in a folder of the
// test's own, and calls it with a client that trusts the development CA.
func useSelfSigned(t *testing.T, command string) {
	home := t.TempDir()
	p := startProcess(t, root, shell("exec env HOME="+home+" XDG_CONFIG_HOME="+home+"/.config "+command)...)
	address := strings.Replace(fmt.Sprint(p.logged(t, "listening", "address")["address"]), "[::]", "localhost", 1)
	p.await(t, "how to trust it", func(l string) bool { return strings.Contains(l, "NODE_EXTRA_CA_CERTS=") })
	data, err := os.ReadFile(filepath.Join(home, ".config", "culvert", "development", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	if err := callOverTLS(t, address, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("%s: a call: %v", command, err)
	}
	p.end(t)
}

// badCertificate provokes the log line about a certificate and a key that don't
// match.
func badCertificate(w witness) {
	const text = "tls:\n  cert: /etc/culvert/tls/fullchain.pem\n  key: /etc/culvert/tls/privkey.pem\n"
	corp, dir := newCorporation(w), w.TempDir()
	corp.fill(w, dir, text)
	// The key in line 3, as on the page.
	config := "# certificates\n" + tlsFile.ReplaceAllStringFunc(text, func(file string) string { return dir + file })
	if err := os.WriteFile(filepath.Join(dir, "proxy.yaml"), []byte(config), 0o600); err != nil {
		w.Fatal(err)
	}
	p := startProcess(w, dir, culvertProgram, "serve", "--config", "proxy.yaml", "--listen", "127.0.0.1:0", "--health-listen", "off", "--backend", "localhost:1")
	p.logged(w, "listening")
	other := corp.issue(w, "other.example.com")
	if err := os.WriteFile(dir+"/etc/culvert/tls/fullchain.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate[0]}), 0o600); err != nil {
		w.Fatal(err)
	}
	p.logged(w, "wrong", "problem")
	w.saw(strings.ReplaceAll(p.output(), dir+"/etc", "/etc"))
	p.end(w)
}
