package main

import (
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// TestCertificatesOutOfUseAreForgotten: their end would raise an alert for ever.
func TestCertificatesOutOfUseAreForgotten(t *testing.T) {
	c := &config.Loaded{Config: config.Config{Listen: make([]config.Listener, 1), Backends: make([]config.NamedBackend, 1)}}
	c.Listen[0].TLS.Cert, c.Listen[0].TLS.Certificates = "a", []config.Certificate{{Cert: "b"}}
	c.Backends[0].TLS.Cert = "c"
	k := &keyring{told: map[string]toldCertificate{"a": {}, "b": {}, "c": {}, "d": {}}}
	if gone := k.forgetAllBut(certificateFiles(c)); !slices.Equal(gone, []string{"d"}) || len(k.told) != 3 {
		t.Errorf("%q are forgotten and %d are left, want d and 3", gone, len(k.told))
	}
}

// TestMetricsThatAreOffObserveNothing: without the key, or without an address to read
// them on, nothing counts.
func TestMetricsThatAreOffObserveNothing(t *testing.T) {
	for name, c := range map[string]struct {
		health config.Health
		on     bool
	}{
		"on":         {config.Health{Listen: ":1", Metrics: true}, true},
		"off":        {config.Health{Listen: ":1"}, false},
		"no address": {config.Health{Metrics: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			log := telemetry.NewLog(nil)
			cfg := bridge.Config{Observer: log}
			p := &program{config: &config.Loaded{Config: config.Config{Health: c.health}}}
			certificates := p.openMetrics(&cfg, log)
			if on := cfg.Observer != report.Observer(log); on != c.on {
				t.Errorf("something else observes the calls: %v, want %v", on, c.on)
			}
			if _, on := certificates.(certificateObservers); on != c.on || (p.metrics != nil) != c.on {
				t.Errorf("something else observes the certificates: %v, want %v", on, c.on)
			}
		})
	}
}
