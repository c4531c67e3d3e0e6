package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"
)

// Each certificate may ask its clients for another's: a connection that was
// opened for the name that asks for less carries nothing for the other.
func TestPolicyByName(t *testing.T) {
	t.Parallel()
	ca, clients, dir := newIssuer(t, "ca"), newIssuer(t, "clients"), t.TempDir()
	writePair(t, dir, "open", ca.issue("open", "open.example"))
	writePair(t, dir, "closed", ca.issue("closed", "closed.example"))
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
