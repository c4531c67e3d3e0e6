package serve

import (
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/logs"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/recent"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// observers see what connections, calls and certificates do.
type observers struct {
	lines    *telemetry.Log // writes the lines of calls
	releaser *releaser
	metrics  *telemetry.Metrics // nil: off

	// These are for the admin address. Without it, they are nil.
	recent       *recent.Recorder
	certificates *recent.Certificates
}

// open has the observers observe the bridge, and returns what observes the certificates.
// used returns the bytes that the bridge holds for its clients.
func (o *observers) open(cfg *bridge.Config, c *config.Loaded, log *logs.Log, version string, used func() int64) keys.Observer {
	o.lines = telemetry.NewLog(log.Calls)
	o.setLines(c.Log)
	o.releaser = newReleaser(used, mappedMemory, releaseMemory, log.Logger)
	if c.Admin.Listen != "" {
		o.recent = recent.NewRecorder(time.Now())
		o.recent.SetRoutes(backendsOf(wiring.MeasuredRoutes(c)))
		o.certificates = &recent.Certificates{ACME: len(c.TLS.ACME.Domains) > 0 || len(c.TLS.ACME.OnDemand) > 0}
		cfg.CallEnded = o.recent.CallEnded
	}
	cfg.Observer = connWatcher{o.lines, o.releaser, o.recent}
	all := o.openMetrics(cfg, c, version)
	if o.certificates != nil {
		all = certificateObservers{all, o.certificates}
	}
	return all
}

func backendsOf(routes []telemetry.Route) map[string][]string {
	all := make(map[string][]string, len(routes))
	for _, r := range routes {
		all[r.Name] = r.Backends
	}
	return all
}

// setLines sets what lines of calls there are, and what they have.
func (o *observers) setLines(c config.Log) {
	o.lines.SetSamples(wiring.Samples(c))
	o.lines.SetFields(wiring.LogFields(c))
	o.lines.SetBegin(c.Begin)
}

// openMetrics has the metrics observe the bridge and the certificates, unless they
// are neither read nor exported. Then it changes nothing.
func (o *observers) openMetrics(cfg *bridge.Config, c *config.Loaded, version string) keys.Observer {
	if !metricsRead(c) && c.OTLP.Receiver(config.SignalMetrics) == "" {
		return o.lines
	}
	o.metrics = telemetry.NewMetrics(version)
	o.metrics.SetRoutes(wiring.MeasuredRoutes(c))
	cfg.Observer = report.Observers(cfg.Observer, o.metrics)
	return certificateObservers{o.lines, o.metrics}
}

// metricsRead reports whether there is an address to read the metrics on.
func metricsRead(c *config.Loaded) bool { return c.Health.Metrics && c.Health.Listen != "" }

// watchReloads has the observers follow the configuration.
func (p *program) watchReloads() {
	p.watchMetrics()
	p.reloads.reloaded = func(before, now *configState) {
		m := p.observers.metrics
		if m != nil {
			tellReload(m, before, now)
		}
		if now.rejected != nil {
			return
		}
		for _, file := range p.keys.ForgetAllBut(now.Loaded) {
			if m != nil {
				m.ForgetCertificate(file)
			}
			if k := p.observers.certificates; k != nil {
				k.Forget(file)
			}
		}
	}
}

func tellReload(m *telemetry.Metrics, before, now *configState) {
	if now.rejected != nil {
		m.ConfigRejected()
		return
	}
	if now.version != before.version {
		m.ConfigApplied()
	}
	m.ConfigInUse(now.version, now.since)
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
	if metricsRead(p.Config) {
		p.health.SetMetrics(m.Handler(p.log.Logger))
	}
}

// certificateObservers are called one after the other.
type certificateObservers []keys.Observer

func (os certificateObservers) Certificate(c report.CertificateInfo) {
	for _, o := range os {
		o.Certificate(c)
	}
}
