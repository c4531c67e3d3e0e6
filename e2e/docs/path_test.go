package docs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// startPath starts what a snippet's calls go through, by the names in it: culvert
// before the demo's service, what ends TLS for grpc.example.com, and the proxy of
// a company.
func startPath(t testing.TB, b block) {
	t.Helper()
	startDemoBackend(t)
	config := `
hosts: [grpc.example.com]
trusted_proxies: [127.0.0.1]
`
	if slices.Contains(b.options, "configured") {
		config = savedAs(t, b, "proxy.yaml")
	}
	culvert := startCulvert(t, "--allow-origin", "http://localhost:5173", "--config", writeFile(t, "proxy.yaml", config))
	if strings.Contains(b.text, "grpc.example.com") {
		startNginx(t, frontConfig(t))
	}
	if !slices.Contains(b.options, "proxied") {
		return
	}
	proxy := startTinyproxy(t)
	t.Cleanup(func() {
		if !strings.Contains(proxy.output(), "CONNECT grpc.example.com:443") {
			t.Errorf("the snippet went past the proxy:\n%s\n%s", proxy.output(), culvert.output())
		}
	})
}

// savedAs returns the text of the block above that a reader saves as the file.
func savedAs(t testing.TB, b block, file string) string {
	t.Helper()
	for _, above := range b.before {
		if fileOf(above) == file {
			return above.text
		}
	}
	t.Fatalf("%s: no block above is saved as %s", b.place(), file)
	return ""
}

// environmentOf is what a snippet's user has set before: the company's CA and,
// with the option "proxied", its proxy.
func environmentOf(b block) string {
	ca := filepath.Join(worldDir, "ca.pem")
	env := fmt.Sprintf("export SSL_CERT_FILE=%s NODE_EXTRA_CA_CERTS=%s\n", ca, ca)
	if slices.Contains(b.options, "proxied") {
		env += "export HTTPS_PROXY=http://proxy.corp.example:3128 https_proxy=http://proxy.corp.example:3128\n"
	}
	return env
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// frontConfig is the nginx configuration that docs/guides/reverse-proxies.md shows.
func frontConfig(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "guides", "reverse-proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePage("docs/guides/reverse-proxies.md", string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.blocks {
		if b.language == "nginx" {
			return b.text
		}
	}
	t.Fatal("docs/guides/reverse-proxies.md shows no configuration of nginx")
	return ""
}

// startNginx starts nginx with what stands in its http section.
func startNginx(t testing.TB, text string) {
	t.Helper()
	dir := t.TempDir()
	text = strings.NewReplacer("/etc/nginx/tls/fullchain.pem", filepath.Join(worldDir, "cert.pem"),
		"/etc/nginx/tls/privkey.pem", filepath.Join(worldDir, "key.pem")).Replace(text)
	// One process: who isn't really root can't change users.
	config := "user root root; daemon off; master_process off; pid " + dir + "/pid; error_log stderr notice;\nevents {}\nhttp {\naccess_log off;\n" +
		"client_body_temp_path " + dir + "; proxy_temp_path " + dir + "; fastcgi_temp_path " + dir + "; uwsgi_temp_path " + dir + "; scgi_temp_path " + dir + ";\n" +
		text + "}\n"
	file := writeFile(t, "nginx.conf", config)
	if said, err := output(t, dir, "nginx", "-t", "-e", "stderr", "-p", dir, "-c", file); err != nil {
		t.Fatalf("nginx -t: %v\n%s", err, said)
	}
	startProcess(t, dir, "nginx", "-e", "stderr", "-p", dir, "-c", file)
	awaitPort(t, "127.0.0.1:443")
}

func startTinyproxy(t testing.TB) *process {
	t.Helper()
	config := "Port 3128\nListen 127.0.0.1\nTimeout 600\nLogLevel Connect\nConnectPort 443\nMaxClients 20\n"
	p := startProcess(t, t.TempDir(), "tinyproxy", "-d", "-c", writeFile(t, "tinyproxy.conf", config))
	awaitPort(t, "127.0.0.1:3128")
	return p
}

// awaitPort waits until somebody listens at the address.
func awaitPort(t testing.TB, address string) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for deadline := time.After(30 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close() // it was only to see
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("nobody listens at %s: %v", address, err)
		}
	}
}

// makeCertificates writes a CA (ca.pem, ca.key) and a certificate of
// grpc.example.com and native.example.com (cert.pem, key.pem) into dir.
func makeCertificates(dir string) error {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example Corp"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "grpc.example.com"}, DNSNames: []string{"grpc.example.com", "native.example.com"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return errors.Join(
		writeCertificate(dir, "ca.pem", ca, ca, caKey, caKey), writeKey(dir, "ca.key", caKey),
		writeCertificate(dir, "cert.pem", leaf, ca, leafKey, caKey), writeKey(dir, "key.pem", leafKey))
}

func writeCertificate(dir, name string, certificate, issuer *x509.Certificate, key, issuerKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, certificate, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

func writeKey(dir, name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// nginxHurries makes nginx' defaults for what ends a quiet stream one second in
// place of 60. A page's own settings stand in the server below it and win.
const nginxHurries = "client_body_timeout 1s; proxy_read_timeout 1s; proxy_send_timeout 1s; grpc_read_timeout 1s; grpc_send_timeout 1s;\n"

// runNginx starts nginx with the block as what stands in front of culvert, and
// calls through it over each of the transports.
func runNginx(t *testing.T, b block) {
	backend, culvert := startFronted(t, b)
	startNginx(t, nginxHurries+b.text)
	wantFront(t, backend, culvert, toldByForwarded, 1500*time.Millisecond)
}
