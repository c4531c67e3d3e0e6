package bridge

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestRefusedHandshakeReadsWhy: a client of TLS 1.3 believes that it is done
// when its certificate has not been looked at yet, and sends. It reads the
// alert, and its kernel no reset meanwhile.
func TestRefusedHandshakeReadsWhy(t *testing.T) {
	ca := parts.NewAuthority(t)
	s := newServer(t, Config{Backend: nowhere})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool,
	}})
	for range 5 {
		var d net.Dialer
		raw, err := d.DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		conn := tls.Client(raw, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13})
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatalf("the client's own part: %v", err)
		}
		for range 16 { // whatever the server does meanwhile
			if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
				t.Fatalf("writing: %v", err)
			}
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("read %v, want the alert", err)
		}
		_ = raw.Close() // or it lingers
	}
}
