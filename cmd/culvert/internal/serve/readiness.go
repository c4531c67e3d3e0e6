package serve

import (
	"slices"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge"
)

// backends returns the state of the backends that take new calls.
func (p *program) backends() []admin.Backend {
	needed := p.reloads.current().Health.DependsOn
	var all []admin.Backend
	for _, u := range p.bridge.Upstreams() {
		if u.Draining {
			continue
		}
		usable, cause := takesCalls(u)
		all = append(all, admin.Backend{Name: u.Name, Needed: slices.Contains(needed, u.Name), Usable: usable, Cause: cause})
	}
	return all
}

// backendsGone reports whether a new call would reach nothing: culvert can connect to no
// backend. A web server behind fallback may be there.
func (p *program) backendsGone() bool {
	mayServe := func(u bridge.UpstreamState) bool { return !u.Draining && !unreachable(u) }
	return p.reloads.current().Fallback == "" && !slices.ContainsFunc(p.bridge.Upstreams(), mayServe)
}

// unreachable reports whether the last attempt to connect failed at each address.
func unreachable(u bridge.UpstreamState) bool {
	for _, a := range u.Addresses {
		if a.Accepts || a.Unhealthy || a.Failure == "" {
			return false
		}
	}
	return len(u.Addresses) > 0
}

// takesCalls reports whether a connection of the upstream takes calls, or why none does.
func takesCalls(u bridge.UpstreamState) (yes bool, cause string) {
	for _, a := range u.Addresses {
		if a.Accepts {
			return true, ""
		}
		if a.Failure != "" {
			cause = a.Address + ": " + a.Failure
		}
	}
	return false, cause
}
