package bridge

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/codec"
)

// ClientNames are the names in a client's verified certificate. They are who
// made the connection: behind a proxy that ends TLS, that is the proxy.
type ClientNames struct {
	SPIFFE     string   // its SPIFFE ID: "spiffe://example.org/ns/shop/sa/orders"; "" if it has none
	DNS        []string // as they stand there, wildcards too
	CommonName string   // of its subject

	forwarded string // as x-forwarded-client-cert says it
}

// String is the name that tells most.
func (n *ClientNames) String() string {
	switch {
	case n == nil:
		return ""
	case n.SPIFFE != "":
		return n.SPIFFE
	case len(n.DNS) > 0:
		return n.DNS[0]
	default:
		return n.CommonName
	}
}

// clientNames reads a certificate that was verified.
func clientNames(state *tls.ConnectionState) *ClientNames {
	leaf := state.VerifiedChains[0][0]
	n := &ClientNames{DNS: leaf.DNSNames, CommonName: leaf.Subject.CommonName, forwarded: forwardedCertificate(leaf)}
	// Of several URIs none is its name. X509-SVID §2, "SPIFFE ID".
	if len(leaf.URIs) == 1 && strings.EqualFold(leaf.URIs[0].Scheme, "spiffe") {
		n.SPIFFE = leaf.URIs[0].String()
	}
	return n
}

// namesOf returns the names of whoever has the connection, nil for one who
// showed no certificate, or one that nobody verified. They are read once where
// the connection is one of this package's.
func namesOf(c net.Conn, state *tls.ConnectionState) *ClientNames {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	client := clientUnder(c)
	if client == nil {
		return clientNames(state)
	}
	n := client.names.Load()
	if n == nil {
		n = clientNames(state)
		client.names.Store(n)
	}
	return n
}

// clientCertHeader carries client certificates as Envoy does.
// https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
const clientCertHeader = "x-forwarded-client-cert"

// vouchCertificate adds who the client is by its certificate, behind what a
// trusted proxy says of its own client, or removes all of that.
func (a *arrival) vouchCertificate(md metadata.MD, h http.Header, forward bool) {
	delete(md, clientCertHeader)
	if !forward {
		return
	}
	var said []string
	if a.trusted {
		for _, v := range h["X-Forwarded-Client-Cert"] {
			if v != "" && codec.ValidValue(v) {
				said = append(said, v)
			}
		}
	}
	if a.peer.Client != nil {
		said = append(said, a.peer.Client.forwarded)
	}
	if len(said) > 0 {
		md[clientCertHeader] = []string{strings.Join(said, ",")}
	}
}

// forwardedCertificate is one element of x-forwarded-client-cert. By, the name
// of culvert's own certificate, is left out: it may have any number of them.
func forwardedCertificate(leaf *x509.Certificate) string {
	hash := sha256.Sum256(leaf.Raw)
	var b strings.Builder
	b.WriteString("Hash=")
	b.WriteString(hex.EncodeToString(hash[:]))
	b.WriteString(";Subject=")
	b.WriteString(quoted(leaf.Subject.String()))
	for _, u := range leaf.URIs {
		b.WriteString(";URI=")
		b.WriteString(quotedIfNeeded(u.String()))
	}
	for _, name := range leaf.DNSNames {
		b.WriteString(";DNS=")
		b.WriteString(quotedIfNeeded(name))
	}
	return b.String()
}

func quotedIfNeeded(s string) string {
	if strings.ContainsAny(s, `,;="\`) {
		return quoted(s)
	}
	return s
}

// quoted writes a value of any text as one that ends nowhere within. What no
// header can carry becomes a question mark: the hash tells certificates apart.
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
