package main

import (
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/telemetry"
)

// openMetrics has the metrics observe the bridge and the certificates, unless they
// are off or there is no address to read them on. Then it changes nothing.
func (p *program) openMetrics(cfg *bridge.Config, certificates keys.Observer) keys.Observer {
	if !p.config.Health.Metrics || p.config.Health.Listen == "" {
		return certificates
	}
	p.metrics = telemetry.NewMetrics(thisBuild().Version)
	cfg.Observer = report.Observers(cfg.Observer, p.metrics)
	return certificateObservers{certificates, p.metrics}
}

// watchMetrics gives the metrics what they read at each scrape, and begins to serve
// them.
func (p *program) watchMetrics() {
	if p.metrics == nil {
		return
	}
	for _, l := range p.policies {
		p.metrics.Listen(l.Name)
	}
	p.metrics.SetSources(p.bridge.Snapshot, p.logs.Dropped)
	first := p.reloads.current()
	p.metrics.ConfigInUse(first.version, first.since)
	p.reloads.reloaded = func(before, now *configState) {
		if now.rejected != nil {
			p.metrics.ConfigRejected()
			return
		}
		if now.version != before.version {
			p.metrics.ConfigApplied()
		}
		p.metrics.ConfigInUse(now.version, now.since)
		for _, file := range p.keys.ForgetAllBut(now.Loaded) {
			p.metrics.ForgetCertificate(file)
		}
	}
	p.health.SetMetrics(p.metrics.Handler(p.log))
}

// certificateObservers are called one after the other.
type certificateObservers []keys.Observer

// Certificate implements keys.Observer.
func (os certificateObservers) Certificate(c report.CertificateInfo) {
	for _, o := range os {
		o.Certificate(c)
	}
}
