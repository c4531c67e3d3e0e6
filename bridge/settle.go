package bridge

import (
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// settle decides about a call again, now that its metadata is known. It is called once,
// by the driver: before the steps, or for a partial ask once Prepare has completed it.
func (c *call) settle() (err error) {
	defer c.catch("the beginning of a call", &err)
	if c.unsettled == nil {
		return nil // the policy has no routes
	}
	if !c.final {
		f := *c.unsettled
		f.metadata = c.Metadata
		d := c.policy.decide(&f)
		if d.route == nil {
			return nil // authorize refuses the call
		}
		if err := c.redecide(d); err != nil {
			return err
		}
	}
	if c.route == nil {
		return nil // authorize refuses the call
	}
	c.unsettled = nil // a call may be long
	c.takeRouteTimeout()
	return nil
}

// takeRouteTimeout gives the call its route's time-out, unless it has a shorter one.
func (c *call) takeRouteTimeout() {
	if t := c.route.timeout; t != nil && (c.Timeout == 0 || t.limit < c.Timeout) {
		c.Timeout, c.late = t.limit, t.cause
	}
}

// redecide replaces the decision about a call before the call has messages. If it has
// another route, the call must pass its limits and origins, too.
func (c *call) redecide(d decision) error {
	before := c.route
	c.decision = d
	if d.route == before {
		return nil
	}
	c.name(func(i *report.CallInfo) { i.Route, i.Method = d.route.name, d.Method })
	if size := headers.Size(c.Metadata); size > d.headers.Bytes {
		return headers.TooLarge("request", size, d.headers)
	}
	if err := c.use.Move(d.limit.scopeOf(), d.route.scope, d.Method); err != nil {
		return err
	}
	if c.policy.originsOf(d.route) == c.policy.originsOf(before) {
		return nil
	}
	if d.origin.Denial != nil {
		if err := c.s.refusals.Unless(c.policy.tryOrigins, d.denied(), c.peer.Addr); err != nil {
			return err
		}
	}
	if !d.origin.Credentials {
		delete(c.Metadata, "cookie")
		c.setCookies = false
	}
	return nil
}
