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
	return &admin.Control{
		Log: p.log.Logger, Level: &p.log.Level, Version: p.Version, Started: p.began, Configuration: p.configuration, Problems: p.problems,
		Drain: &p.draining, Data: p.data(),
	}
}

// configuration returns what the admin address shows of the configuration.
func (p *program) configuration() admin.Configuration {
	now := p.reloads.current()
	shown := admin.Configuration{Print: func(w io.Writer) error { return now.Whole().Print(w) }, File: now.File, Version: now.version, Since: now.since}
	if now.rejected != nil {
		shown.Rejected, shown.RejectedAt, shown.Difference, shown.Restart = now.rejected.cause, now.rejected.at, now.rejected.changed, now.rejected.keys
	}
	return shown
}
