package main

import (
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// openMetrics has the metrics observe the bridge and the certificates, unless they
// are off or there is no address to read them on. Then it changes nothing.
func (p *program) openMetrics(cfg *bridge.Config, certificates certificateObserver) certificateObserver {
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
		for _, file := range p.keys.forgetAllBut(certificateFiles(now.Loaded)) {
			p.metrics.ForgetCertificate(file)
		}
	}
	p.health.SetMetrics(p.metrics.Handler(p.log))
}

// certificateFiles returns the files of certificates that a configuration names. Some may
// be twice in it, or empty.
func certificateFiles(c *config.Loaded) []string {
	var files []string
	for i := range c.Listen {
		t := c.ListenerTLS(i)
		files = append(files, t.Cert)
		for _, pair := range t.Certificates {
			files = append(files, pair.Cert)
		}
	}
	for _, b := range c.BackendSections() {
		files = append(files, b.TLS.Cert)
	}
	return files
}

// certificateObservers are called one after the other.
type certificateObservers []certificateObserver

// Certificate implements certificateObserver.
func (os certificateObservers) Certificate(c report.CertificateInfo) {
	for _, o := range os {
		o.Certificate(c)
	}
}
