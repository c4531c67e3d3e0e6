package main

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

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
