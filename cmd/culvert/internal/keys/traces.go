package keys

import (
	"crypto/tls"

	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// TraceReceiver reads the certificates for the receiver of traces. It returns nil if the
// configuration names none: the system's CAs then verify the receiver. Each connection has the
// client certificate that is in the files by then. The CAs are read once.
func (k *Ring) TraceReceiver(c *config.Loaded) (*tls.Config, error) {
	t := c.Traces
	if t.Endpoint == "" || t.CA == "" && t.Cert == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	client, err := proxytls.NewClient(proxytls.ClientOptions{
		CA: t.CA, Cert: t.Cert, Key: t.Key, ConfigKey: "traces",
		Certificate: k.reporter(), Problem: k.problem, Mended: k.mended,
	})
	if err != nil {
		return nil, placedIn(c, err, wholeName)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.traces = client
	own := client.Config().Clone()
	if t.Cert != "" {
		own.Certificates = nil
		own.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &client.Config().Certificates[0], nil
		}
	}
	return own, nil
}
