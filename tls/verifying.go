package proxytls

import (
	"crypto/tls"
	"crypto/x509"
)

// Verifying returns a configuration that is never stale, for a client that takes one once for
// all of its connections, unlike those of Config: each handshake uses the files as they are
// then. The server's certificate must have the name.
func (c *Client) Verifying(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: name,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if own := c.Config().Certificates; len(own) > 0 {
				return &own[0], nil
			}
			return new(tls.Certificate), nil
		},
		// The standard verification would know the first RootCAs only.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the same
		VerifyConnection: func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{DNSName: name, Roots: c.Config().RootCAs, Intermediates: x509.NewCertPool()}
			for _, between := range s.PeerCertificates[1:] { // a server without a certificate fails before
				o.Intermediates.AddCert(between)
			}
			if _, err := s.PeerCertificates[0].Verify(o); err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
			}
			return nil
		},
	}
}
