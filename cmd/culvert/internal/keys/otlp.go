package keys

import (
	"crypto/tls"

	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// Receivers reads the certificates for the receivers of OTLP. It returns nil if the configuration
// names none: the system's CAs then verify the receivers. Each connection has the client
// certificate that is in the files by then. The CAs are read once.
func (k *Ring) Receivers(c *config.Loaded) (*tls.Config, error) {
	o := c.OTLP
	if len(o.Exported()) == 0 || o.CA == "" && o.Cert == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	client, err := proxytls.NewClient(proxytls.ClientOptions{
		CA: o.CA, Cert: o.Cert, Key: o.Key, ConfigKey: "otlp",
		Certificate: k.reporter(), Problem: k.problem, Mended: k.mended,
	})
	if err != nil {
		return nil, placedIn(c, err, wholeName)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.receivers = client
	own := client.Config().Clone()
	if o.Cert != "" {
		own.Certificates = nil
		own.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &client.Config().Certificates[0], nil
		}
	}
	return own, nil
}
