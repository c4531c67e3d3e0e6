package e2e

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// Who has to show a certificate, and whose counts, on every transport.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, clients, stranger := newIssuer(t, "ca"), newIssuer(t, "clients"), newIssuer(t, "stranger")
	b := startBackend(t, backendOptions{})
	required := startTLS(t, ca, b.address, "", "--tls-client-ca", clients.file)
	optional := startTLS(t, ca, b.address, "tls: {client_auth: optional}\n", "--tls-client-ca", clients.file)
	for _, row := range []struct {
		name   string
		c      *culvert
		certs  []tls.Certificate
		served bool
	}{
		{"required and shown", required, []tls.Certificate{clients.issue("alice")}, true},
		{"required and not shown", required, nil, false},
		{"required and a stranger's", required, []tls.Certificate{stranger.issue("mallory")}, false},
		{"optional and shown", optional, []tls.Certificate{clients.issue("alice")}, true},
		{"optional and not shown", optional, nil, true},
	} {
		t.Run(strings.ReplaceAll(row.name, " ", "_"), func(t *testing.T) {
			perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
				if err := worksTLS(t, transport, row.c.address, ca.trusting(row.certs...)); (err == nil) != row.served {
					t.Errorf("%v, want served %v", err, row.served)
				}
			})
		})
	}
	// A client of Go shows only what the server asked for; this one shows it
	// anyway.
	forward := ca.trusting()
	mallory := stranger.issue("mallory")
	forward.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &mallory, nil }
	if err := worksTLS(t, wire.Web, optional.address, forward); err == nil {
		t.Error("optional, and a stranger's certificate: served")
	}
}

// What a client shows again goes by what is in force then: the authorities can
// be replaced under open streams, which go on.
func TestClientAuthoritiesAreReplaced(t *testing.T) {
	t.Parallel()
	ca, before, after := newIssuer(t, "ca"), newIssuer(t, "clients"), newIssuer(t, "clients")
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "", "--tls-client-ca", before.file)
	alice := ca.trusting(before.issue("alice"))
	alice.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	talks := talkOver(t, c.address, alice)
	replaceFile(t, before.file, pemOf("CERTIFICATE", after.cert.Raw))
	if err := eventually(tlsPatience, func() error { return worksTLS(t, wire.GRPC, c.address, ca.trusting(after.issue("bob"))) }); err != nil {
		t.Fatalf("a client of the new authority: %v", err)
	}
	if err := worksTLS(t, wire.GRPC, c.address, alice); err == nil {
		t.Error("a client of the old authority is served on a new connection")
	}
	stillTalk(t, talks, 1, true)
}
