package config

// TLS is how culvert proves to clients who it is, and they to it.
type TLS struct {
	ServerTLS

	// Further names and addresses of the development certificate
	// ("app.test", "192.168.1.10").
	SelfSignedNames []string `key:"self_signed_names" is:"own name"`

	// An address (":80") that sends whoever comes in plaintext to HTTPS, for
	// hosts that a certificate is for and those in hosts, and does nothing else
	// but to answer the CA of acme; "" or "off" for none.
	HTTPListen string `key:"http_listen" is:"optional address"`

	// The port that http_listen sends to, where clients find TLS at another one
	// than it has here: 443 behind a load balancer that sends it to 8443. 0 for
	// the port of the first listener with TLS.
	HTTPTarget int `key:"http_target" is:"port or 0"`

	// Certificates that a CA gives by itself (ACME, RFC 8555): Let's Encrypt,
	// or one within a company.
	ACME ACME `key:"acme"`
}

// Enabled says whether there is a certificate to speak TLS with, or will be.
func (t TLS) Enabled() bool { return t.ServerTLS.Enabled() || t.ACME.Enabled() }

// ServerTLS is what each listener can have of its own.
type ServerTLS struct {
	// File with the certificate chain (PEM): culvert's own first, then those
	// in between. It is read again when it changes. A relative path starts at
	// the directory of the file it stands in.
	Cert string `key:"cert" flag:"tls-cert" is:"file" group:"certificate"`

	// File with the private key (PEM) of cert.
	Key string `key:"key" flag:"tls-key" is:"file" group:"certificate"`

	// Further certificates, selected by SNI or, for a client without SNI, by
	// the IP address that it connected to. cert, or else the first of these, is
	// the default. Each of the others needs a DNS name or an IP address in its
	// subjectAltName.
	Certificates []Certificate `key:"certificates" group:"certificate"`

	// File with the certificates (PEM) of those who may have signed clients'.
	ClientCA string `key:"client_ca" flag:"tls-client-ca" is:"file" group:"trust"`

	// What clients have to show: "require" a certificate that client_ca
	// signed, "optional" such a one or none, "none" nothing. Empty: require
	// where there is a client_ca.
	ClientAuth string `key:"client_auth" is:"client auth" group:"trust"`

	// Files with lists (PEM or DER) of the clients' certificates that were
	// revoked, signed by client_ca. One that is out of date goes on to count,
	// and is warned of.
	CRLs []string `key:"crls" is:"file" group:"trust"`

	// The oldest version of TLS that is spoken: "1.2" or "1.3".
	MinVersion string `key:"min_version" one:"1.2,1.3"`

	// For development: a certificate for localhost, 127.0.0.1, ::1 and
	// self_signed_names, by an authority of this machine that is made once, in
	// the user's configuration folder, and can vouch for those names only.
	SelfSigned bool `key:"self_signed" flag:"tls-self-signed" group:"certificate"`
}

// Enabled says whether there is a certificate to speak TLS with.
func (t ServerTLS) Enabled() bool { return t.Cert != "" || len(t.Certificates) > 0 || t.SelfSigned }

// Certificate is one of several that clients are shown.
type Certificate struct {
	// File with the certificate chain (PEM).
	Cert string `key:"cert" is:"file" needed:"true"`

	// File with the private key (PEM) of cert.
	Key string `key:"key" is:"file" needed:"true"`

	// File with the certificates (PEM) of those who may have signed clients',
	// for clients that select this certificate. Empty: those of the client_ca
	// beside certificates.
	ClientCA string `key:"client_ca" is:"file"`

	// What clients that select this certificate have to show. Empty: what the
	// client_auth beside certificates says, or "require" with a client_ca. A
	// connection with another client_ca or client_auth carries no request for
	// a name or an IP address of this certificate: those are answered 421.
	ClientAuth string `key:"client_auth" is:"client auth"`
}
