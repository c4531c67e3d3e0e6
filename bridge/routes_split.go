package bridge

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// backendFor returns the backend of a new call of the route: one that takes it, else one
// that serves, else any. Its failure tells the client why. key is as in route.backendFor.
func (rt *router) backendFor(r *route, key []string) string {
	backend := r.backendFor(key, rt.takes)
	if r.others() > 0 && !rt.takes(backend) {
		return r.backendFor(key, rt.upstreams.Serves)
	}
	return backend
}

// backendFor returns the backend of a call whose metadata has these values under the
// name in sticky. serves is as in routing.Split.
func (r *route) backendFor(key []string, serves func(backend string) bool) string {
	switch {
	case r.split == nil:
		return r.backend
	case len(key) > 0:
		return r.split.PickFor(key, serves)
	}
	return r.split.Pick(rand.Uint64(), serves) //nolint:gosec // a share of the calls is no secret
}

// others returns how many backends besides the call's the route has. r may be nil.
func (r *route) others() int {
	if r == nil || r.split == nil {
		return 0
	}
	return len(r.split.Targets()) - 1
}

// otherBackends returns how many backends besides the call's it may move to.
func (c *call) otherBackends() int {
	if c.auth != nil && c.auth.backend != "" {
		return 0 // the Authenticator has chosen
	}
	return c.route.others()
}

// hasBackend reports whether the backend is one of those of the call's route, or the only one.
func (c *call) hasBackend(name string) bool {
	if c.route == nil {
		return name == c.policy.router.unrouted
	}
	return c.route.offers(name)
}

// offers reports whether the backend is one of the route's.
func (r *route) offers(backend string) bool {
	if r.split == nil {
		return backend == r.backend
	}
	return slices.ContainsFunc(r.split.Targets(), func(t report.Target) bool { return t.Backend == backend })
}

// unknownBackend refuses a call for which the Authenticator has chosen a backend that its route
// hasn't. A name that nobody has configured must lead nowhere.
func unknownBackend(name string) *report.Fault {
	return report.New(report.ReasonInternal, "internal error").Because(fmt.Errorf("the Authenticator chose the backend %q, which the call's route doesn't have", name))
}

// changeBackend gives the call another backend that takes it, by the weights of those that
// weren't tried. It returns which ones are tried then. If there is no other one, ok is
// false, and the call keeps its own.
func (c *call) changeBackend(key, tried []string) (_ []string, ok bool) {
	if tried == nil {
		tried = append(make([]string, 0, 1+c.route.others()), c.info.Backend)
	}
	takes := func(backend string) bool {
		return !slices.Contains(tried, backend) && c.policy.router.takes(backend)
	}
	for {
		backend := c.route.backendFor(key, takes)
		if slices.Contains(tried, backend) {
			return tried, false
		}
		able := takes(backend)
		tried = append(tried, backend)
		if able && c.moveTo(backend) { // else other calls were faster, or none is able
			return tried, true
		}
	}
}

// returnToBackend gives the call the backend to wait at when none has room at once: its
// first one, or another one if that can't be reached or has as many calls as it may.
func (c *call) returnToBackend(key, tried []string) {
	backend := tried[0]
	if !c.policy.router.takes(backend) {
		backend = c.route.backendFor(key, c.policy.router.takes)
	}
	if backend != c.info.Backend && c.policy.router.takes(backend) {
		c.moveTo(backend)
	}
}

// moveTo gives the call the backend in place of its own, if it acquires it.
func (c *call) moveTo(backend string) bool {
	to, err := c.policy.router.acquire(backend)
	if err != nil {
		return false
	}
	c.releaseUpstream()
	c.to = to
	c.name(func(i *report.CallInfo) { i.Backend = backend })
	return true
}
