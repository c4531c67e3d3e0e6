package gate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net/url"
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
)

// named signs a client's certificate with the names, by itself.
func named(t *testing.T, commonName string, dns []string, uris ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: commonName}, DNSNames: dns}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	return new(authority.Authority).Sign(t, template).Leaf
}

func TestClientNames(t *testing.T) {
	for _, c := range []struct {
		name      string
		cert      *x509.Certificate
		text      string
		spiffe    string
		forwarded string // behind the hash
	}{
		{"common name", named(t, "orders", nil), "orders", "", `Subject="CN=orders"`},
		{"DNS", named(t, "orders", []string{"orders.example.org", "*.example.org"}), "orders.example.org", "", `Subject="CN=orders";DNS=orders.example.org;DNS=*.example.org`},
		{
			"SPIFFE", named(t, "", []string{"orders.example.org"}, "spiffe://example.org/ns/shop/sa/orders"),
			"spiffe://example.org/ns/shop/sa/orders", "spiffe://example.org/ns/shop/sa/orders",
			`Subject="";URI=spiffe://example.org/ns/shop/sa/orders;DNS=orders.example.org`,
		},
		{
			"several URIs", named(t, "orders", nil, "spiffe://example.org/a", "spiffe://example.org/b"), "orders", "",
			`Subject="CN=orders";URI=spiffe://example.org/a;URI=spiffe://example.org/b`,
		},
		{"another URI", named(t, "orders", nil, "https://example.org/a"), "orders", "", `Subject="CN=orders";URI=https://example.org/a`},
		{
			"an element that it isn't", named(t, `x";URI=spiffe://example.org/root,Subject="y`, nil, "spiffe://example.org/a,b;c=d"),
			"spiffe://example.org/a,b;c=d", "spiffe://example.org/a,b;c=d",
			`Subject="CN=x\\\"\\;URI=spiffe://example.org/root\\,Subject=\\\"y";URI="spiffe://example.org/a,b;c=d"`,
		},
		{
			"control bytes in DNS names", named(t, "orders", []string{"a\nb", "c\x00d", "e\x7f", "f g"}), "a\nb", "",
			`Subject="CN=orders";DNS="a?b";DNS="c?d";DNS="e?";DNS="f g"`,
		},
		{"what no header carries", named(t, "Jürgen\r\nx: y", nil), "Jürgen\r\nx: y", "", `Subject="CN=J?rgen??x: y"`},
	} {
		state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{c.cert}}, PeerCertificates: []*x509.Certificate{c.cert}}
		n := NamesOf(state)
		hash := sha256.Sum256(c.cert.Raw)
		want := "Hash=" + hex.EncodeToString(hash[:]) + ";" + c.forwarded
		if n.String() != c.text || n.SPIFFE != c.spiffe || n.Forwarded() != want {
			t.Errorf("%s: %q, %q,\n%s; want %q, %q,\n%s", c.name, n, n.SPIFFE, n.Forwarded(), c.text, c.spiffe, want)
		}
		state.VerifiedChains = nil
		if n := NamesOf(state); n != nil || n.String() != "" {
			t.Errorf("%s: of a certificate that nobody verified the names are %v", c.name, n)
		}
	}
}
