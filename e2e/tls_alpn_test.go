package e2e

import (
	"crypto/tls"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// startTLS starts culvert with a certificate of ca for 127.0.0.1 and names.
func startTLS(t *testing.T, ca *issuer, backend, config string, args ...string) *culvert {
	t.Helper()
	certFile, keyFile := writePair(t, t.TempDir(), "tls", ca.issue("culvert", "culvert.example"))
	return startCulvert(t, backend, culvertOptions{config: config, args: append([]string{"--tls-cert", certFile, "--tls-key", keyFile}, args...)})
}

// What a client says by ALPN, or doesn't, decides between HTTP/2 and HTTP/1.1:
// the WebSocket of one that says nothing is served.
func TestALPN(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "")
	for _, row := range []struct {
		offers    []string
		transport wire.Transport
		spoken    string
	}{
		{[]string{}, wire.WebSocket, ""},
		{[]string{}, wire.Tunnel, ""},
		{[]string{}, wire.Web, ""},
		{[]string{"http/1.1"}, wire.WebSocket, "http/1.1"},
		{[]string{"http/1.1"}, wire.Tunnel, "http/1.1"},
		{[]string{"h2"}, wire.GRPC, "h2"},
		{[]string{"h2", "http/1.1"}, wire.WebH2, "h2"},
	} {
		config := ca.trusting()
		config.NextProtos = row.offers
		conn := dialTLS(t, row.transport, c.address, config)
		if got := conn.TLS.NegotiatedProtocol; got != row.spoken {
			t.Errorf("%s, offered %q: %q is spoken, want %q", row.transport, row.offers, got, row.spoken)
		}
		if err := unary(t.Context(), conn, newID(t)); err != nil {
			t.Errorf("%s, offered %q: %v", row.transport, row.offers, err)
		}
	}
}

// Every transport carries every kind of call over culvert's own TLS, in either
// version of it.
func TestTransportsOverTLS(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := ca.trusting()
		config.MinVersion, config.MaxVersion = version, version
		t.Run(tls.VersionName(version), func(t *testing.T) {
			perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
				if err := unary(t.Context(), dialTLS(t, transport, c.address, config), newID(t)); err != nil {
					t.Error(err)
				}
				replies := finish(post(t, dialTLS(t, transport, c.address, config), wire.ServerStream, probe.Script{Replies: 100, ReplyBytes: 10 * kib}), 0)
				if replies.status == nil || replies.status.Code != codes.OK || replies.replies != 100 {
					t.Errorf("a stream of 100 replies: %v", replies)
				}
				talk := open(t, dialTLS(t, transport, c.address, config), wire.Bidi, probe.Script{Echo: true})
				for i := range uint64(20) {
					say(t, talk, i)
				}
				if err := talk.CloseSend(); err != nil {
					t.Error(err)
				}
				if e := finish(talk, 20); e.status == nil || e.status.Code != codes.OK {
					t.Errorf("a conversation: %v", e)
				}
				r := b.record(t, talk.id, probe.Ended, tlsPatience)
				if got := r.Values("x-forwarded-proto"); len(got) != 1 || got[0] != "https" {
					t.Errorf("the backend is told x-forwarded-proto %q", got)
				}
			})
		})
	}
}

// grpc-go as every program has it.
func TestGRPCGoOverTLS(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "")
	cc, err := grpc.NewClient("passthrough:///"+c.address, grpc.WithTransportCredentials(credentials.NewTLS(ca.trusting())), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // the test is over
	j := scenario{method: "Bidi", script: probe.Script{Echo: true}, requests: []jobRequest{{}, {}}}.job(t, "grpc-go tls")
	s, err := cc.NewStream(withMetadata(t.Context(), j), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, wire.Bidi)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := s.SendMsg(j.request(i)); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(j.request(0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(j.request(0)); err != io.EOF { //nolint:errorlint // grpc-go returns it bare
		t.Errorf("the end: %v, want OK", err)
	}
}

// Plaintext on a port of TLS is told so, in plaintext.
func TestPlaintextOnATLSPort(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	c := startTLS(t, ca, "127.0.0.1:1", "")
	if got := c.plainGet(t, c.address, "/", ""); got.status != 400 {
		t.Errorf("plaintext was answered %d", got.status)
	}
}

// The oldest version is a matter of tls.min_version.
func TestOldestVersion(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	usual := startTLS(t, ca, b.address, "")
	strict := startTLS(t, ca, b.address, "tls: {min_version: 1.3}\n")
	for _, row := range []struct {
		c       *culvert
		version uint16
		served  bool
	}{
		{usual, tls.VersionTLS11, false},
		{usual, tls.VersionTLS12, true},
		{usual, tls.VersionTLS13, true},
		{strict, tls.VersionTLS12, false},
		{strict, tls.VersionTLS13, true},
	} {
		config := ca.trusting()
		config.MinVersion, config.MaxVersion = row.version, row.version
		if err := worksTLS(t, wire.GRPC, row.c.address, config); (err == nil) != row.served {
			t.Errorf("%s: %v, want served %v", tls.VersionName(row.version), err, row.served)
		}
	}
}
