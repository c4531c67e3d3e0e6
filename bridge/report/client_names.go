package report

// ClientNames are the names in a client's verified certificate. They identify the
// peer of the connection: behind a proxy that terminates TLS, that is the proxy.
type ClientNames struct {
	SPIFFE     string   // its SPIFFE ID: "spiffe://example.org/ns/shop/sa/orders"; "" if it has none
	DNS        []string // as in the certificate, with wildcards
	CommonName string   // of its subject

	// Forwarded returns an element of x-forwarded-client-cert in Envoy's form. It consists
	// of printable ASCII.
	// https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
	Forwarded func() string
}

// String returns the most specific name.
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
