package e2e

import (
	"crypto/tls"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A certificate that was revoked opens no connection, a resumed session
// neither; who is connected stays.
func TestRevokedClientCertificate(t *testing.T) {
	t.Parallel()
	ca, clients := newIssuer(t, "ca"), newIssuer(t, "clients")
	alice, bob := clients.issue("alice"), clients.issue("bob")
	list := filepath.Join(clients.dir, "revoked.pem")
	clients.revoke(list)
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "tls: {crls: ["+list+"]}\n", "--tls-client-ca", clients.file)
	asAlice, asBob := ca.trusting(alice), ca.trusting(bob)
	asAlice.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for _, transport := range wire.All {
		if err := worksTLS(t, transport, c.address, asAlice); err != nil {
			t.Fatalf("%s, before: %v", transport, err)
		}
	}
	talks := talkOver(t, c.address, asAlice)
	clients.revoke(list, alice)
	if err := eventually(tlsPatience, func() error {
		if worksTLS(t, wire.GRPC, c.address, asAlice) == nil {
			return errors.New("alice is still served")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, transport := range wire.All {
		if err := worksTLS(t, transport, c.address, asAlice); err == nil {
			t.Errorf("%s: alice is served", transport)
		}
		if err := worksTLS(t, transport, c.address, asBob); err != nil {
			t.Errorf("%s: bob, who isn't revoked: %v", transport, err)
		}
	}
	stillTalk(t, talks, 1, true)

	// A list that nobody vouches for changes nothing.
	newIssuer(t, "stranger").revoke(list)
	c.awaitReadyz(t, func(body string) bool { return strings.Contains(body, "signed") && strings.Contains(body, "client_ca") })
	if err := worksTLS(t, wire.GRPC, c.address, asAlice); err == nil {
		t.Error("a stranger's list lets alice in again")
	}
}
