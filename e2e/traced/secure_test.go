package traced

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSecureReceiver: over TLS, with a client certificate, which a receiver may require.
func TestSecureReceiver(t *testing.T) {
	t.Parallel()
	b := startBackend(t, startReceiver(t, nil))
	cert, key := writePair(t)
	r := startSecureReceiver(t, cert, key)
	for protocol, to := range map[string]string{"grpc": r.grpc, "http/protobuf": r.http} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			begin := fmt.Sprintf("traces: {endpoint: %q, protocol: %s, timeout: 2s, ca: %q", to, protocol, cert)
			p := startCulvert(t, b.address, begin+fmt.Sprintf(", cert: %q, key: %q, service: %q}\n", cert, key, "shown "+protocol))
			call(t, "grpc", p.address, nil)
			<-b.calls
			p.stop(t)
			r.find(t, "over TLS", func(s span) bool { return s.service == "shown "+protocol })

			p = startCulvert(t, b.address, begin+"}\n")
			call(t, "grpc", p.address, nil)
			<-b.calls
			p.logged(t, "spans were dropped")
			if got := p.metric(t, "culvert_trace_spans_exported_total"); got != "0" {
				t.Errorf("%s spans were exported without a client certificate", got)
			}

			p = startCulvert(t, b.address, fmt.Sprintf("traces: {endpoint: %q, protocol: %s, timeout: 2s}\n", to, protocol))
			call(t, "grpc", p.address, nil)
			<-b.calls
			p.logged(t, "spans were dropped") // the system's CAs don't know the receiver's certificate
		})
	}
}

// writePair writes a certificate for this machine that is its own CA, and its key.
func writePair(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "receiver"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, content []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}
