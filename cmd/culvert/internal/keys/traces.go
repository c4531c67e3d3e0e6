package keys

import (
	"crypto/tls"

	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// TraceReceiver reads the certificates for the receiver of traces, once. It returns nil if the
// configuration names none: the system's CAs then verify the receiver.
func TraceReceiver(c *config.Loaded) (*tls.Config, error) {
	t := c.Traces
	if t.Endpoint == "" || t.CA == "" && t.Cert == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	client, err := proxytls.NewClient(proxytls.ClientOptions{CA: t.CA, Cert: t.Cert, Key: t.Key, ConfigKey: "traces"})
	if err != nil {
		return nil, placedIn(c, err, wholeName)
	}
	defer client.Close()
	return client.Config().Clone(), nil
}
