package bridge

import (
	"cmp"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/fallback"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
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
	encoded headers.Asked // metadata that crosses in any case: credentials, and what routes ask for
	users   *policyUsers  // the requests that have taken it

	// listenings are the rules of listeners that Apply has changed, by the listener
	// that accepted the connection.
	listenings map[*edge.Listening]*edge.Listening

	fallback    *fallback.Proxy // nil: there is no web server
	fallbackURL string          // its address

	connect connectRules
	path    pathRules

	auth    *policyAuthenticator // nil: nobody is asked who calls
	tryAuth bool

	authCookies, bearerSubprotocol bool // credentials may be there

	tryOrigins     bool
	pathPrefix     string
	detailedErrors bool
	drainSpread    time.Duration

	forwardCookies, forwardSetCookies, forwardClientCert bool
}

// takesCookies reports whether a request's cookies matter to culvert or to the backend.
func (p *policy) takesCookies() bool { return p.forwardCookies || p.authCookies }

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
	return cmp.Or(p.listenings[l], l)
}

// connRules returns the rules for the next HTTP/2 connection that the listener accepts.
func (p *policy) connRules(l *edge.Listening) h2.Rules {
	streams := min(p.limits.CallsPerConnection, 1<<16)
	// Room for a full window of every stream: a call that nobody reads never stops
	// the others on its connection.
	window := min(max(streams*connReceiveWindow+1<<20, 2<<20), 1<<30)
	if n := p.listening(l).CallsPerConnection; n > 0 {
		streams = min(streams, n)
	}
	return h2.Rules{
		Streams: streams, Window: window, HeaderBytes: looseHeaderBytes(p.limits.HeaderBytes),
		Idle: p.limits.ConnectionIdleTimeout, Age: p.limits.ConnectionMaxAge, SlowConsumer: p.limits.SlowConsumerTimeout,
	}
}
