package serve

import (
	"io"

	"github.com/culvert-grpc/culvert/admin"
)

func (p *program) control() *admin.Control {
	p.draining = admin.Drain{
		NotReady: func() { p.health.SetReady(false) },
		Refuse: func() {
			p.bridge.RefuseCalls()
			p.log.Info("culvert refuses new calls", "calls", p.bridge.RunningCalls())
		},
		Refuses: p.bridge.RefusesCalls,
		Calls:   p.bridge.RunningCalls,
		Gone:    p.backendsGone,
	}
	return &admin.Control{Log: p.log.Logger, Level: &p.log.Level, Version: p.Version, Configuration: p.configuration, Drain: &p.draining}
}

// configuration returns what the admin address shows of the configuration.
func (p *program) configuration() admin.Configuration {
	now := p.reloads.current()
	shown := admin.Configuration{Print: func(w io.Writer) error { return now.Whole().Print(w) }, Version: now.version, Since: now.since}
	if now.rejected != nil {
		shown.Rejected, shown.RejectedAt = now.rejected.cause, now.rejected.at
	}
	return shown
}
