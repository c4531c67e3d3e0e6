package bridge

import (
	"fmt"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/quota"
)

// A policy is what requests and calls are judged by. It is never changed. A
// request takes the Server's policy once, when it arrives, and its call keeps it
// to the end. What is counted lives apart from it.
type policy struct {
	limits  Limits // with their defaults
	origins gate.Origins
	router  router
	quotas  *quota.Limiter // what connections and calls count with
	methods methodLimits
	vouched vouchedNames

	// listenings are the rules of listeners that Apply has changed, by what
	// connections came in on.
	listenings map[*edge.Listening]*edge.Listening

	tryOrigins     bool
	pathPrefix     string
	detailedErrors bool

	forwardCookies, forwardSetCookies, forwardClientCert bool
}

// newPolicy returns the policy of a Config, or why that is wrong. Where the policy
// before has limits of the same methods, their calls go on counting. before may be
// nil.
func (s *Server) newPolicy(cfg *Config, before *policy) (*policy, error) {
	p := &policy{
		limits:            cfg.Limits.withDefaults(),
		vouched:           newVouchedNames(cfg.VouchedHeaders),
		tryOrigins:        cfg.TryOrigins,
		pathPrefix:        cfg.PathPrefix,
		detailedErrors:    cfg.DetailedErrors,
		forwardCookies:    cfg.ForwardCookies,
		forwardSetCookies: cfg.ForwardSetCookies,
		forwardClientCert: cfg.ForwardClientCert,
	}
	if prefix := p.pathPrefix; prefix != "" && (prefix[0] != '/' || prefix[len(prefix)-1] == '/') {
		return nil, fmt.Errorf("path prefix %q: want it to begin with a slash and not to end with one", prefix)
	}
	var err error
	if p.origins, err = gate.NewOrigins(cfg.AllowOrigins, cfg.Hosts); err != nil {
		return nil, err
	}
	methods, err := newMethodPolicy(cfg.AllowMethods, cfg.DenyMethods)
	if err != nil {
		return nil, err
	}
	p.router = router{policy: methods, try: cfg.TryMethods, refusals: s.refusals, upstreams: s.upstreams}
	p.quotas = s.quotas.With(p.limits.shared(), p.limits.Address, cfg.TryLimits)
	var counted methodLimits
	if before != nil {
		counted = before.methods
	}
	if p.methods, err = newMethodLimits(cfg.MethodLimits, counted); err != nil {
		return nil, err
	}
	return p, nil
}

// listening returns the rules for what came in on l.
func (p *policy) listening(l *edge.Listening) *edge.Listening {
	if with, ok := p.listenings[l]; ok {
		return with
	}
	return l
}
