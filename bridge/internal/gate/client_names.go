package gate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"sync"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// NamesOf returns the names of a connection's peer. It returns nil if the peer showed
// no certificate, or one that was not verified.
func NamesOf(state *tls.ConnectionState) *report.ClientNames {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	leaf := state.VerifiedChains[0][0]
	n := &report.ClientNames{DNS: leaf.DNSNames, CommonName: leaf.Subject.CommonName}
	n.Forwarded = sync.OnceValue(func() string { return forwardedCertificate(leaf) }) // it may be long
	// If there are several URIs, none is its name. X509-SVID §2, "SPIFFE ID".
	if len(leaf.URIs) == 1 && strings.EqualFold(leaf.URIs[0].Scheme, "spiffe") {
		n.SPIFFE = leaf.URIs[0].String()
	}
	return n
}

// forwardedCertificate returns one element of x-forwarded-client-cert. It leaves out
// By, the name of culvert's own certificate, which may have any number of names.
func forwardedCertificate(leaf *x509.Certificate) string {
	hash := sha256.Sum256(leaf.Raw)
	var b strings.Builder
	b.WriteString("Hash=" + hex.EncodeToString(hash[:]) + ";Subject=" + quoted(leaf.Subject.String()))
	for _, u := range leaf.URIs {
		b.WriteString(";URI=" + quotedIfNeeded(u.String()))
	}
	for _, name := range leaf.DNSNames {
		b.WriteString(";DNS=" + quotedIfNeeded(name))
	}
	return b.String()
}

// quotedIfNeeded quotes a name with a byte that could end an element or that a
// header can't carry: a DNS name in a certificate may have any ASCII byte.
func quotedIfNeeded(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`,;="\`, r) }) {
		return quoted(s)
	}
	return s
}

// quoted returns s as a quoted string. A byte that a header can't carry becomes a
// question mark, which no DNS name has: the hash identifies the certificate.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r > '~':
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
