package serve

import (
	"context"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// openReloads makes the reloader, with every part of the program that takes a new
// configuration while it runs. The bridge is the last that may refuse one, because
// it applies it at once.
func (p *program) openReloads(ctx context.Context) {
	p.reloads = newReloader(p.Config, p.Again, p.log.Logger)
	p.reloads.notify = func(state string) { notify(ctx, p.log.Logger, state) }
	p.reloads.always = func() bool {
		certificates, described, auth, token := p.keys.Reload(), p.described.Reload(), p.auth.reload(), p.token.Reload()
		return certificates || described || auth || token
	}
	p.reloads.parts = []part{
		p.changeLogLevel,
		p.changeLogLines,
		p.changeMeasuredRoutes,
		p.changeExports,
		p.keys.ReportLater,
		p.keys.ChangeListeners,
		p.keys.ChangeClients,
		p.described.Change,
		p.token.Change,
		p.changeAdminHosts,
		p.announcer.change,
		p.auth.change,
		p.changeBridge,
	}
}

// changeLogLevel leaves a level that an administrator has set at run time, unless
// the file's level changes.
func (p *program) changeLogLevel(running, next *config.Loaded) (commit, undo func(), err error) {
	if running.Log.Level == next.Log.Level {
		return nil, nil, nil
	}
	return func() { p.log.SetLevel(next.Log) }, nil, nil
}

// changeLogLines changes which calls have lines, and what those have. A rule for samples that
// stays continues its count.
func (p *program) changeLogLines(_, next *config.Loaded) (commit, undo func(), err error) {
	return func() { p.observers.setLines(next.Log) }, nil, nil
}

// changeMeasuredRoutes changes which routes have metrics of their own, and are counted apart
// for the admin address.
func (p *program) changeMeasuredRoutes(_, next *config.Loaded) (commit, undo func(), err error) {
	m, r := p.observers.metrics, p.observers.recent
	if m == nil && r == nil {
		return nil, nil, nil
	}
	routes := wiring.MeasuredRoutes(next)
	return func() {
		if m != nil {
			m.SetRoutes(routes)
		}
		if r != nil {
			r.SetRoutes(backendsOf(routes))
		}
	}, nil, nil
}

// changeBridge changes what requests are judged by, and the memory limit.
func (p *program) changeBridge(_, next *config.Loaded) (commit, undo func(), err error) {
	cfg := wiring.Bridge(next)
	p.keys.Secure(cfg.Backends)
	p.described.Describe(cfg.Backends, next)
	p.auth.into(&cfg)
	limit := p.memory.find(next.Limits.Memory)
	boundMemory(&cfg, limit.bytes, next)
	listeners := make([]bridge.Listener, len(next.Listen)) // as many as at the start: config.NeedsRestart
	for i := range next.Listen {
		rules, at := wiring.Listener(next, i), p.ports.public[i].rules
		rules.TLS, rules.SamePolicy, rules.Serves, rules.LoopbackOnly = at.TLS, at.SamePolicy, at.Serves, at.LoopbackOnly
		listeners[i] = rules
	}
	if err = p.bridge.Apply(cfg, listeners...); err != nil {
		return nil, nil, wiring.Placed(err, p.Config, next)
	}
	return func() {
		p.memory.set(p.log.Logger, limit)
		p.memory.warn(p.log.Logger, &cfg)
	}, nil, nil
}
