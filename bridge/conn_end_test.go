package bridge

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

const (
	getPage   = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	badHeader = "GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"
)

// TestEndsOfConnectionsWithoutACall: the log distinguishes connections that brought
// no call. Health checks of load balancers differ from clients that reject the
// certificate, and these from clients that are refused.
func TestEndsOfConnectionsWithoutACall(t *testing.T) {
	ca, other := parts.NewAuthority(t), parts.NewAuthority(t)
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs})
	plain := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{})
	secured := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"http/1.1"},
	}})
	strict := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool,
	}})
	handshake := func(conn net.Conn, config *tls.Config) *tls.Conn {
		c := tls.Client(conn, config)
		_ = c.HandshakeContext(t.Context()) // the server's view of it is what counts
		return c
	}
	trusting := &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}
	for name, c := range map[string]struct {
		address      string
		client       func(conn net.Conn) net.Conn
		ended, cause string
	}{
		"TCP, closed":        {plain, func(c net.Conn) net.Conn { return c }, report.EndedProbe, ""},
		"half a header":      {plain, func(c net.Conn) net.Conn { _, _ = io.WriteString(c, "GET "); return c }, report.EndedOrderly, ""},
		"TCP to TLS, closed": {secured, func(c net.Conn) net.Conn { return c }, report.EndedProbe, ""},
		"TLS, closed":        {secured, func(c net.Conn) net.Conn { return handshake(c, trusting) }, report.EndedProbe, ""},
		"TLS 1.2, closed": {secured, func(c net.Conn) net.Conn {
			return handshake(c, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS12})
		}, report.EndedProbe, ""},
		"TLS, a malformed header": {secured, func(c net.Conn) net.Conn {
			secure := handshake(c, trusting)
			_, _ = io.WriteString(secure, badHeader)
			_, _ = io.Copy(io.Discard, secure) // until the server closes it
			return secure
		}, report.EndedProtocol, ""},
		"another CA": {secured, func(c net.Conn) net.Conn {
			return handshake(c, &tls.Config{RootCAs: other.Pool, ServerName: "127.0.0.1"})
		}, report.EndedProtocol, "client rejected … bad certificate"},
		"another name": {secured, func(c net.Conn) net.Conn {
			return handshake(c, &tls.Config{RootCAs: ca.Pool, ServerName: "other.test"})
		}, report.EndedProtocol, "client rejected … bad certificate"},
		"no client certificate": {strict, func(c net.Conn) net.Conn { return handshake(c, trusting) }, report.EndedProtocol, "client didn't provide a certificate"},
		"plaintext to TLS":      {secured, func(c net.Conn) net.Conn { _, _ = io.WriteString(c, getPage); return c }, report.EndedProtocol, "first record does not look like a TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", c.address)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
			_ = c.client(conn).Close()                     // the server may have
			var got report.ConnInfo
			select {
			case got = <-obs.conns:
			case <-time.After(patience):
				t.Fatal("the end isn't told")
			}
			if got.Ended != c.ended || !says(got.Cause, c.cause) || c.cause == "" && got.Cause != "" {
				t.Errorf("ended for %q by %q, want %q by %q", got.Ended, got.Cause, c.ended, c.cause)
			}
		})
	}
}
