package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
)

// testCA makes a CA that expires at a time.
func testCA(t testing.TB, notAfter time.Time) *x509.Certificate {
	t.Helper()
	return new(authority.Authority).Sign(t, &x509.Certificate{
		NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}).Leaf
}

func encode(cas ...*x509.Certificate) (text []byte) {
	for _, ca := range cas {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
	}
	return text
}

func TestBundleKeepsEarlierAuthorities(t *testing.T) {
	now := time.Now()
	first, second, expired := testCA(t, now.Add(time.Hour)), testCA(t, now.Add(2*time.Hour)), testCA(t, now.Add(-time.Minute))
	var many []*x509.Certificate
	for range maxBundle {
		many = append(many, testCA(t, now.Add(time.Hour)))
	}
	for name, row := range map[string]struct {
		bundle []byte
		want   []byte
	}{
		"empty":             {nil, encode(second)},
		"a placeholder":     {[]byte("\n"), encode(second)},
		"an earlier one":    {encode(first), encode(first, second)},
		"it has it already": {encode(second, first), encode(second, first)},
		"an expired one":    {encode(expired, first), encode(first, second)},
		"one twice":         {encode(first, first), encode(first, second)},
		"other blocks":      {append([]byte("# a comment\n-----BEGIN X-----\n-----END X-----\n"), encode(first)...), encode(first, second)},
		"too many":          {encode(many...), encode(append(many[1:], second)...)},
	} {
		if got := addTo(row.bundle, second, now); !bytes.Equal(got, row.want) {
			t.Errorf("%s: the caBundle is\n%s\nwant\n%s", name, got, row.want)
		}
	}
}

// FuzzBundle checks that any caBundle gets the CA, and that a second time changes
// nothing.
func FuzzBundle(f *testing.F) {
	now := time.Now()
	ca := testCA(f, now.Add(time.Hour))
	f.Add(encode(testCA(f, now.Add(time.Hour))))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		once := addTo(bundle, ca, now)
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(once) {
			t.Errorf("no certificate in %q", once)
		}
		if _, err := ca.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Error(err)
		}
		if twice := addTo(once, ca, now); !bytes.Equal(once, twice) {
			t.Errorf("the second time changes\n%s\nto\n%s", once, twice)
		}
	})
}
