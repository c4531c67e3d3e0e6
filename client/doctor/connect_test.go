package doctor

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"testing"
)

// TestDecryption: a private CA alone proves nothing, and a CDN terminates TLS, too.
func TestDecryption(t *testing.T) {
	certificate := func(organization string, scts bool) *tls.ConnectionState {
		c := &x509.Certificate{Raw: []byte("certificate"), Issuer: pkix.Name{Organization: []string{organization}, CommonName: "R3\x1b[2J"}}
		if scts {
			c.Extensions = []pkix.Extension{{Id: sctExtension}}
		}
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
	}
	sum := sha256.Sum256([]byte("certificate"))
	same, other := []string{hex.EncodeToString(sum[:])}, []string{"00"}
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		facts *serviceFacts
		named string
		want  Result
		cause Cause
	}{
		"public":                              {certificate("Let's Encrypt", true), nil, "", unknown, ""},
		"private":                             {certificate("Example Corp", false), nil, "", unknown, causeNoSCT},
		"private, and the service's own":      {certificate("Example Corp", false), &serviceFacts{tls: true, certificates: same}, "", works, ""},
		"private, and not the service's":      {certificate("Example Corp", false), &serviceFacts{tls: true, certificates: other}, "", present, causeDecrypted},
		"private, and the service can't tell": {certificate("Example Corp", false), &serviceFacts{tls: true}, "", unknown, causeNoSCT},
		"private, and TLS ends before":        {certificate("Example Corp", false), &serviceFacts{}, "", unknown, causeNoSCT},
		"private, and an answer of Squid":     {certificate("Example Corp", false), nil, "Squid", present, causeDecrypted},
		"public, and an answer of Squid":      {certificate("Let's Encrypt", true), nil, "Squid", unknown, ""},
		"public, and not the service's":       {certificate("Google Trust Services", true), &serviceFacts{tls: true, certificates: other}, "", unknown, causeEndsBefore},
		"public, and TLS ends before":         {certificate("Google Trust Services", true), &serviceFacts{}, "", unknown, causeEndsBefore},
		"a product":                           {certificate("Zscaler Inc.", false), nil, "", present, causeDecrypted},
		"a product, the service's own":        {certificate("Zscaler Inc.", false), &serviceFacts{tls: true, certificates: same}, "", works, ""},
	} {
		f := decryption(c.state, c.facts, c.named)
		if f.Result != c.want || f.Cause != c.cause || printable(f.Evidence) != f.Evidence {
			t.Errorf("%s: %s, %q, %q; want %s, %q", name, f.Result, f.Cause, f.Evidence, c.want, c.cause)
		}
	}
}

func TestProducts(t *testing.T) {
	for text, want := range map[string]string{
		"1.1 proxy.corp.example (squid/5.7)": "Squid",
		"CN=Zscaler Intermediate Root CA":    "Zscaler",
		"cloudflare":                         "Cloudflare",
		"nginx/1.22.1":                       "nginx",
		"Access denied":                      "",
	} {
		if got := productIn(text); got != want {
			t.Errorf("%q names %q, want %q", text, got, want)
		}
	}
	if decrypts("nginx") || decrypts("") || decrypts("Cloudflare") || !decrypts("Privoxy") || !decrypts("Zscaler") {
		t.Error("the products that decrypt TLS are others")
	}
}
