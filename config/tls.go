package config

// TLS configures TLS for clients.
type TLS struct {
	ServerTLS

	// More names and addresses for the development certificate, such as
	// "app.test" and "192.168.1.10".
	SelfSignedNames []string `key:"self_signed_names" is:"own name" restart:"yes"`

	// An address (":80") that redirects names of certificates and of hosts to HTTPS,
	// and answers the challenges of acme. "" or "off": none.
	HTTPListen string `key:"http_listen" is:"optional address" restart:"yes"`

	// The port that http_listen redirects to, such as 443 behind a load balancer.
	// 0: the port of the first listener with TLS.
	HTTPTarget int `key:"http_target" is:"port or 0" restart:"yes"`

	// Certificates from an ACME CA (RFC 8555), such as Let's Encrypt or a
	// company's own.
	ACME ACME `key:"acme" restart:"yes"`
}

// Enabled reports whether there is a certificate, or will be one.
func (t TLS) Enabled() bool { return t.ServerTLS.Enabled() || t.ACME.Enabled() }

// ServerTLS has the keys of TLS that a listener can set for itself.
type ServerTLS struct {
	// The certificate chain (PEM): culvert's own certificate first, then the
	// intermediate ones.
	Cert string `key:"cert" flag:"tls-cert" is:"file" group:"certificate"`

	// The private key (PEM) of cert.
	Key string `key:"key" flag:"tls-key" is:"file" group:"certificate"`

	// More certificates, selected by SNI, or without SNI by the IP address that the
	// client connected to. The default is cert, else the first entry. The others
	// need a subjectAltName.
	Certificates []Certificate `key:"certificates" group:"certificate"`

	// CA certificates (PEM) for verifying client certificates.
	ClientCA string `key:"client_ca" flag:"tls-client-ca" is:"file" group:"trust" restart:"yes"`

	// Whether clients must present a certificate:
	//
	//   - "require": one that client_ca signed.
	//   - "optional": such a certificate or none.
	//   - "none": culvert asks for none.
	//
	// Default: require with a client_ca, otherwise none.
	ClientAuth string `key:"client_auth" is:"client auth" group:"trust" restart:"yes"`

	// Revocation lists (PEM or DER) for client certificates, signed by client_ca. An
	// outdated list causes a warning, and still counts.
	CRLs []string `key:"crls" is:"file" group:"trust" restart:"yes"`

	// The oldest version of TLS for clients.
	MinVersion string `key:"min_version" one:"1.2,1.3"`

	// For development: a certificate for localhost, 127.0.0.1, ::1 and
	// self_signed_names (docs/guides/certificates.md).
	SelfSigned bool `key:"self_signed" flag:"tls-self-signed" group:"certificate" restart:"yes"`
}

// Enabled reports whether there is a certificate.
func (t ServerTLS) Enabled() bool { return t.Cert != "" || len(t.Certificates) > 0 || t.SelfSigned }

// Certificate is one of several certificates of a server.
type Certificate struct {
	// The certificate chain (PEM).
	Cert string `key:"cert" is:"file" needed:"true"`

	// The private key (PEM) of cert.
	Key string `key:"key" is:"file" needed:"true"`

	// CA certificates (PEM) for verifying clients that select this certificate.
	// Default: the client_ca of the same tls section.
	ClientCA string `key:"client_ca" is:"file" restart:"yes"`

	// client_auth for clients that select this certificate. Default: require with
	// a client_ca here, otherwise that of the same tls section. Requests for this
	// certificate's names get 421 on a connection with another client_ca or
	// client_auth.
	ClientAuth string `key:"client_auth" is:"client auth" restart:"yes"`
}
