package traced

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
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
			begin := fmt.Sprintf("otlp: {traces: %q, protocol: %s, timeout: 2s, ca: %q", to, protocol, cert)
			p := startCulvert(t, b.address, begin+fmt.Sprintf(", cert: %q, key: %q, service: %q}\n", cert, key, "shown "+protocol))
			call(t, "grpc", p.address, nil)
			<-b.calls
			p.stop(t)
			r.find(t, "over TLS", func(s span) bool { return s.service == "shown "+protocol })

			p = startCulvert(t, b.address, begin+"}\n")
			call(t, "grpc", p.address, nil)
			<-b.calls
			p.logged(t, "an export by OTLP failed")
			if got := p.metric(t, `culvert_otlp_exported_total{signal="traces"}`); got != "0" {
				t.Errorf("%s spans were exported without a client certificate", got)
			}

			p = startCulvert(t, b.address, fmt.Sprintf("otlp: {traces: %q, protocol: %s, timeout: 2s}\n", to, protocol))
			call(t, "grpc", p.address, nil)
			<-b.calls
			p.logged(t, "an export by OTLP failed") // the system's CAs don't know the receiver's certificate
		})
	}
}

// TestClientsWithCertificates: the context of a client that has shown a certificate is the parent,
// also in a tunnel and on a WebSocket. That of one without is a link.
func TestClientsWithCertificates(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	cert, key := writePair(t)
	p := startCulvert(t, b.address, fmt.Sprintf("tls: {cert: %q, key: %q, client_ca: %q, client_auth: optional}\notlp: {traces: %q, service: edge}\ntraces: {ratio: 1}\n", cert, key, cert, r.http))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	known := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	inTunnel := func(ctx context.Context, _ string) (net.Conn, error) {
		ws, _, err := websocket.Dial(ctx, "wss://"+p.address+"/", &websocket.DialOptions{
			Subprotocols: []string{"h2ts"}, HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: known.Clone(), DisableKeepAlives: true}},
		})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}
	for id, o := range map[string][]grpc.DialOption{
		"known":    {grpc.WithTransportCredentials(credentials.NewTLS(known))},
		"tunnel":   {grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(inTunnel)},
		"stranger": {grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots}))},
	} {
		if err := check(ctx, p.address, map[string]string{"traceparent": fromClient, "x-request-id": id}, o...); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		<-b.calls
		own := r.find(t, "of culvert", func(s span) bool { return s.attribute("culvert.call_id") == id })
		if stranger := id == "stranger"; (own.TraceID().String() != clientTrace) != stranger || (own.Links().Len() == 1) != stranger {
			t.Errorf("%s: culvert's span is in %s below %s, with %d links", id, own.TraceID(), own.ParentSpanID(), own.Links().Len())
		}
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
