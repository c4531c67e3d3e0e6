package bridge

import (
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/fallback"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
)

// A policy has the rules that judge requests and calls. It never changes. A request
// takes the Server's policy once, when it arrives, and its call keeps it to the end.
// Policies share their counts with those before and after.
type policy struct {
	limits  Limits // with their defaults
	memory  int64  // that everything may hold; 0: no limit
	origins gate.Origins
	router  router
	quotas  *quota.Limiter // for connections and calls
	methods methodLimits
	routes  *routes // nil: none
	vouched headers.VouchedNames
	users   *policyUsers // the requests that have taken it

	// listenings are the rules of listeners that Apply has changed, by the listener
	// that accepted the connection.
	listenings map[*edge.Listening]*edge.Listening

	fallback    *fallback.Proxy // nil: there is no web server
	fallbackURL string          // its address

	connect connectRules

	tryOrigins     bool
	pathPrefix     string
	detailedErrors bool
	drainSpread    time.Duration

	forwardCookies, forwardSetCookies, forwardClientCert bool
}

// mayCall reports whether a client that has made a call may call another method in the
// same way.
func (p *policy) mayCall(c *call, method string) bool {
	switch m := c.route.bare(); {
	case !p.router.policy.Allows(method):
		return false
	case p.routes == nil, m != nil && m.MethodPath == "":
		return true
	}
	to, same := p.routes.choose(routing.Facts{Host: routedHost(c.Authority), Listener: c.info.Listener, Transport: c.info.Transport, Path: method})
	return to == c.route && same == method
}

// listening returns the rules for connections accepted by l.
func (p *policy) listening(l *edge.Listening) *edge.Listening {
	if with, ok := p.listenings[l]; ok {
		return with
	}
	return l
}

// connRules are the settings that an http.Server has for all of its connections. They
// can't change while it serves. So connections that are accepted after a change get
// another http.Server, and those that are open keep theirs.
type connRules struct {
	headerBytes   int
	calls         int // at once on one connection
	listenerCalls int // at once on one connection of the listener; not positive: no limit
	slowConsumer  time.Duration
	idle, age     time.Duration // 0: no limit
}

// connRules returns the rules for the next connection that the listener accepts.
func (p *policy) connRules(l *edge.Listening) connRules {
	return connRules{
		headerBytes: p.limits.HeaderBytes,
		calls:       p.limits.CallsPerConnection, listenerCalls: p.listening(l).CallsPerConnection,
		slowConsumer: p.limits.SlowConsumerTimeout,
		idle:         p.limits.ConnectionIdleTimeout, age: p.limits.ConnectionMaxAge,
	}
}
