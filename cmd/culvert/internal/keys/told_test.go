package keys

import (
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/config"
)

// TestCertificatesOutOfUseAreForgotten: their end would raise an alert for ever.
func TestCertificatesOutOfUseAreForgotten(t *testing.T) {
	c := &config.Loaded{Config: config.Config{Listen: make([]config.Listener, 1), Backends: make([]config.NamedBackend, 1)}}
	c.Listen[0].TLS.Cert, c.Listen[0].TLS.Certificates = "a", []config.Certificate{{Cert: "b"}}
	c.Backends[0].TLS.Cert = "c"
	k := &Ring{told: map[string]toldCertificate{"a": {}, "b": {}, "c": {}, "d": {}}}
	if gone := k.ForgetAllBut(c); !slices.Equal(gone, []string{"d"}) || len(k.told) != 3 {
		t.Errorf("%q are forgotten and %d are left, want d and 3", gone, len(k.told))
	}
}
