package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// Each certificate may ask its clients for another's: a connection that was
// opened for the name that asks for less carries nothing for the other.
func TestPolicyByName(t *testing.T) {
	t.Parallel()
	ca, clients, dir := newIssuer(t, "ca"), newIssuer(t, "clients"), t.TempDir()
	writePair(t, dir, "open", ca.issueFor("open", "open.example"))
	writePair(t, dir, "closed", ca.issueFor("closed", "closed.example"))
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: fmt.Sprintf(`
hosts: [open.example, closed.example]
tls:
  certificates:
    - {cert: %[1]s/open.pem, key: %[1]s/open.key}
    - {cert: %[1]s/closed.pem, key: %[1]s/closed.key, client_ca: %[2]s}
`, dir, clients.file)})
	if _, err := getOverTLS(c.address, named(ca.trusting(), "closed.example"), "closed.example"); err == nil {
		t.Error("closed.example lets in a client without a certificate")
	}
	for _, row := range []struct {
		sni, host string
		certs     []tls.Certificate
		want      int
	}{
		{"open.example", "open.example", nil, http.StatusNotFound},
		{"open.example", "closed.example", nil, http.StatusMisdirectedRequest},
		{"open.example", "CLOSED.example.:443", nil, http.StatusMisdirectedRequest},
		{"open.example", "closed.example..", nil, http.StatusBadRequest},
		{"open.example", "closed.example:443:443", nil, http.StatusBadRequest},
		{"closed.example", "open.example", []tls.Certificate{clients.issue("alice")}, http.StatusMisdirectedRequest},
		{"closed.example", "closed.example", []tls.Certificate{clients.issue("alice")}, http.StatusNotFound},
	} {
		got, err := getOverTLS(c.address, named(ca.trusting(row.certs...), row.sni), row.host)
		if err != nil {
			t.Errorf("a connection for %s asks for %s: %v", row.sni, row.host, err)
		} else if got != row.want {
			t.Errorf("a connection for %s asks for %s: %d, want %d", row.sni, row.host, got, row.want)
		}
	}
}

// On loopback the names of each configured certificate count as hosts, whatever
// name the client sent by SNI; any other name in Host is refused.
func TestNamesOfCertificatesAreHostsOnLoopback(t *testing.T) {
	t.Parallel()
	ca, dir := newIssuer(t, "ca"), t.TempDir()
	writePair(t, dir, "app", ca.issueFor("app", "app.example.test"))
	writePair(t, dir, "wild", ca.issueFor("wild", "*.wild.example.test"))
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: fmt.Sprintf(`
tls:
  certificates:
    - {cert: %[1]s/app.pem, key: %[1]s/app.key}
    - {cert: %[1]s/wild.pem, key: %[1]s/wild.key}
`, dir)})
	_, port, err := net.SplitHostPort(c.address)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"app.example.test:" + port:      http.StatusNotFound, // let in, and GET / is no call
		"APP.example.test":              http.StatusNotFound,
		"a.wild.example.test:" + port:   http.StatusNotFound,
		"localhost:" + port:             http.StatusNotFound,
		"foreign.example.test:" + port:  http.StatusForbidden,
		"wild.example.test:" + port:     http.StatusForbidden,
		"a.b.wild.example.test:" + port: http.StatusForbidden,
		"a.app.example.test:" + port:    http.StatusForbidden,
		"app.example.test.evil.example": http.StatusForbidden,
		"evil.example:" + port:          http.StatusForbidden,
	} {
		got, err := getOverTLS(c.address, named(ca.trusting(), "app.example.test"), host)
		if err != nil || got != want {
			t.Errorf("Host %s: answered %d (%v), want %d", host, got, err, want)
		}
	}
}

// A certificate for an IP address asks clients of that address for theirs: SNI
// names none, so the address that the client connected to decides.
func TestPolicyByAddress(t *testing.T) {
	t.Parallel()
	ca, clients, dir := newIssuer(t, "ca"), newIssuer(t, "clients"), t.TempDir()
	writePair(t, dir, "open", ca.issueFor("open", "open.example"))
	writePair(t, dir, "closed", ca.issueFor("closed", "127.0.0.1"))
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{listen: "0.0.0.0:0", config: fmt.Sprintf(`
tls:
  certificates:
    - {cert: %[1]s/open.pem, key: %[1]s/open.key}
    - {cert: %[1]s/closed.pem, key: %[1]s/closed.key, client_ca: %[2]s}
`, dir, clients.file)})
	_, port, _ := net.SplitHostPort(c.address)
	address := "127.0.0.1:" + port
	alice := clients.issue("alice")
	for _, transport := range wire.All {
		if err := worksTLS(t, transport, address, ca.trusting()); err == nil {
			t.Errorf("%s: a call to https://%s without a certificate is served", transport, address)
		}
		if err := worksTLS(t, transport, address, ca.trusting(alice)); err != nil {
			t.Errorf("%s: a call to https://%s with a certificate: %v", transport, address, err)
		}
	}
	for _, host := range []string{address, "127.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]:443"} {
		got, err := getOverTLS(address, named(ca.trusting(), "open.example"), host)
		if err != nil || got != http.StatusMisdirectedRequest {
			t.Errorf("a connection for open.example asks for %s: %d, %v, want 421", host, got, err)
		}
	}
	// Another address of this host is that of no pair, as behind NAT.
	elsewhere := named(ca.trusting(), "127.0.0.2")
	elsewhere.InsecureSkipVerify = true
	if shown, err := shownTo("127.0.0.2:"+port, elsewhere); err != nil || shown != "open" {
		t.Errorf("127.0.0.2 shows %s, %v, want the first", shown, err)
	}
	for host, want := range map[string]int{"127.0.0.2": http.StatusNotFound, "127.0.0.1": http.StatusMisdirectedRequest} {
		if got, err := getOverTLS("127.0.0.2:"+port, elsewhere, host); err != nil || got != want {
			t.Errorf("127.0.0.2 is asked for %s: %d, %v, want %d", host, got, err, want)
		}
	}
}
