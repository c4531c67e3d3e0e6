package serve

import (
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/logs"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// observers see what connections, calls and certificates do.
type observers struct {
	lines    *telemetry.Log // writes the lines of calls
	releaser *releaser
	metrics  *telemetry.Metrics // nil: off
	traces   *telemetry.Traces  // nil: off
}

// open has the observers observe the bridge, and returns what observes the certificates.
// used returns the bytes that the bridge holds for its clients.
func (o *observers) open(cfg *bridge.Config, c *config.Loaded, log *logs.Log, version string, used func() int64) keys.Observer {
	o.lines = telemetry.NewLog(log.Calls)
	o.lines.SetSamples(wiring.Samples(c.Log))
	o.releaser = newReleaser(used, mappedMemory, releaseMemory, log.Logger)
	cfg.Observer = connWatcher{o.lines, o.releaser}
	return o.openMetrics(cfg, c, version)
}

// openMetrics has the metrics observe the bridge and the certificates, unless they
// are off or there is no address to read them on. Then it changes nothing.
func (o *observers) openMetrics(cfg *bridge.Config, c *config.Loaded, version string) keys.Observer {
	if !c.Health.Metrics || c.Health.Listen == "" {
		return o.lines
	}
	o.metrics = telemetry.NewMetrics(version)
	cfg.Observer = report.Observers(cfg.Observer, o.metrics)
	return certificateObservers{o.lines, o.metrics}
}

// watchMetrics gives the metrics what they read at each scrape, and begins to serve
// them.
func (p *program) watchMetrics() {
	m := p.observers.metrics
	if m == nil {
		return
	}
	for _, l := range p.ports.public {
		m.Listen(l.rules.Name)
	}
	m.SetSources(p.bridge.Snapshot, p.log.Dropped)
	first := p.reloads.current()
	m.ConfigInUse(first.version, first.since)
	p.reloads.reloaded = func(before, now *configState) {
		if now.rejected != nil {
			m.ConfigRejected()
			return
		}
		if now.version != before.version {
			m.ConfigApplied()
		}
		m.ConfigInUse(now.version, now.since)
		for _, file := range p.keys.ForgetAllBut(now.Loaded) {
			m.ForgetCertificate(file)
		}
	}
	p.health.SetMetrics(m.Handler(p.log.Logger))
}

// certificateObservers are called one after the other.
type certificateObservers []keys.Observer

func (os certificateObservers) Certificate(c report.CertificateInfo) {
	for _, o := range os {
		o.Certificate(c)
	}
}
