package keys

import (
	"crypto/tls"

	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// Receivers reads the certificates for the receivers of OTLP, once. It returns nil if the
// configuration names none: the system's CAs then verify the receivers.
func Receivers(c *config.Loaded) (*tls.Config, error) {
	o := c.OTLP
	if len(o.Exported()) == 0 || o.CA == "" && o.Cert == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	client, err := proxytls.NewClient(proxytls.ClientOptions{CA: o.CA, Cert: o.Cert, Key: o.Key, ConfigKey: "otlp"})
	if err != nil {
		return nil, placedIn(c, err, wholeName)
	}
	defer client.Close()
	return client.Config().Clone(), nil
}
