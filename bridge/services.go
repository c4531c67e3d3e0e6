package bridge

import (
	"context"
	"slices"
)

// Services asks the backend, by server reflection, which services it offers,
// and returns, sorted, the open ones, of which calls may cross, and the unnamed
// ones: AllowMethods keeps those out although DenyMethods doesn't name them. The
// unnamed leave out reflection, health and what shows a backend's inside. It waits
// for a backend that isn't there yet until the context ends.
func (s *Server) Services(ctx context.Context) (open, unnamed []string, err error) {
	u, err := s.upstreams.Acquire(theBackend)
	if err != nil {
		return nil, nil, err
	}
	defer u.Release()
	policy := s.policy.Load().router.policy
	names, err := u.Services(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		switch {
		case policy.exposes(name):
			open = append(open, name)
		case !policy.leavesOut(name):
			unnamed = append(unnamed, name)
		}
	}
	slices.Sort(open)
	slices.Sort(unnamed)
	return open, unnamed, nil
}

// leavesOut reports whether the service is kept out on purpose: DenyMethods names
// it, or it is one that a gRPC server offers beside its own.
func (p methodPolicy) leavesOut(service string) bool {
	return matchesService(p.deny, service) || matchesService(deniedUnlessAllowed, service) || matchesService(ofServers, service)
}

// ofServers are services that a gRPC server offers beside its own.
var ofServers = []string{"grpc.health.*/*", "grpc.reflection.*/*"}

// exposes reports whether some method of the service can be called.
func (p methodPolicy) exposes(service string) bool {
	if p.allows("/" + service + "/*") {
		return true
	}
	return matchesService(p.allow, service) && !matchesAny(p.deny, service+"/*")
}
