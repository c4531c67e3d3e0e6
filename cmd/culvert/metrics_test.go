package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
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

// TestMetricsOfReloads: a file that is put back changes nothing, and what a rejected one
// opened isn't in use.
func TestMetricsOfReloads(t *testing.T) {
	r := newReloadTest(t, reloadBase)
	s, err := bridge.New(bridge.Config{Backend: bridge.Backend{Target: "localhost:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // the test is over
	logs := openLog(io.Discard, r.current().Log)
	defer logs.close()
	p := &program{reloads: r.reloader, bridge: s, log: logs.Logger, logs: logs, metrics: telemetry.NewMetrics("1"), keys: &keyring{told: map[string]toldCertificate{}}}
	p.watchMetrics()
	values := func() map[string]string {
		w := httptest.NewRecorder()
		p.metrics.Handler(p.log).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		values := map[string]string{}
		for line := range strings.Lines(w.Body.String()) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			values[name] = value
		}
		return values
	}
	const applied, rejected, newest, since = `culvert_config_reloads_total{result="applied"}`, `culvert_config_reloads_total{result="rejected"}`, "culvert_config_last_reload_successful", "culvert_config_applied_timestamp_seconds"
	first := values()[since]
	for _, step := range []struct{ content, applied, rejected, newest string }{
		{"errors: none\n", "0", "1", "0"},
		{reloadBase, "0", "1", "1"},
		{reloadChanged, "1", "1", "1"},
	} {
		const file = "opened by the reload.pem"
		p.keys.told[file] = toldCertificate{}
		p.metrics.Certificate(report.CertificateInfo{File: file})
		r.write(step.content)
		r.reload(false)
		now := values()
		if now[applied] != step.applied || now[rejected] != step.rejected || now[newest] != step.newest {
			t.Errorf("%q: %s applied, %s rejected, the newest is in use: %s; want %+v", step.content, now[applied], now[rejected], now[newest], step)
		}
		if changed := now[since] != first; changed != (step.applied != "0") {
			t.Errorf("%q: the time of the configuration is %s, and was %s", step.content, now[since], first)
		}
		for name := range now {
			if strings.Contains(name, file) {
				t.Errorf("%q: %s is told of", step.content, name)
			}
		}
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
