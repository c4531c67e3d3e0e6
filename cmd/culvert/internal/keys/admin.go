package keys

import (
	"crypto/tls"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

const adminSection = "admin.tls"

// Admin reads the certificate of the admin address of c, and returns its TLS configuration: nil
// for plaintext. The certificate is for operators alone: Serves doesn't know its names.
func (k *Ring) Admin(c *config.Loaded) (*tls.Config, error) {
	p, err := k.openAdmin(c)
	if err != nil || p == nil {
		return nil, err
	}
	k.admin = newListenerTLS(p)
	one := []string{"http/1.1"} // package admin speaks nothing else
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: one,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			current, err := k.admin.Config.GetConfigForClient(hello)
			if current != nil {
				current = current.Clone()
				current.NextProtos = one
			}
			return current, err
		},
		GetCertificate: k.admin.Config.GetCertificate,
	}, nil
}

// openAdmin returns the Provider of the admin address of c, or nil for plaintext.
func (k *Ring) openAdmin(c *config.Loaded) (*proxytls.Provider, error) {
	pair := c.Admin.TLS
	if pair.Cert == "" || c.Admin.Listen == "" {
		return nil, nil //nolint:nilnil // nil is plaintext
	}
	o := proxytls.Options{
		ConfigKey: adminSection, ClientAuth: proxytls.None, MinVersion: tls.VersionTLS12,
		Certificates: []proxytls.Pair{{Cert: pair.Cert, Key: pair.Key, ConfigKey: adminSection}},
	}
	return k.provider(c, o, "", true)
}

// changeAdmin returns the Provider of the admin address of next. A running address keeps to TLS
// or to plaintext.
func (k *Ring) changeAdmin(next *config.Loaded) (*proxytls.Provider, error) {
	p, err := k.openAdmin(next)
	if err == nil && (p == nil) != (k.admin == nil) {
		keys := slices.DeleteFunc(config.Changed(k.config.Load().Whole(), next), func(name string) bool { return !strings.HasPrefix(name, adminSection+".") })
		err = wiring.NeedRestart(next, keys)
	}
	return p, err
}
