package bridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A RestartError lists what a Server can't change while it runs.
type RestartError struct {
	Keys []string // of the configuration file, sorted; listen[i] is the listener i that Apply got
}

func (e *RestartError) Error() string {
	return "a change of " + strings.Join(e.Keys, ", ") + " needs a restart"
}

// Apply replaces the configuration. cfg judges requests that arrive from now on, also in
// tunnels that are open, and its limits apply to connections that begin to be served
// from now on.
// Running calls and open connections keep what they began with, and count towards the
// new limits. Limits.BufferedBytes and Memory apply to all at once.
//
// Apply adds, replaces and removes backends, by name. A backend keeps its connections
// if its settings and Limits.HeaderBytes, which its connections announce, are the same.
// An upstream that is replaced or removed takes no calls that arrive later, and closes
// after its last one.
//
// The listeners are the new rules of those that ServeListener runs: each of these once,
// by its name. Without listeners, only the rules of Serve and ConfigureHTTP change,
// which are in cfg.
//
// If Apply returns an error, nothing has changed. A *RestartError lists the settings
// that can't change, such as Limits.HeaderBytes above its value in New.
// docs/guides/embedding.md has them, and what Apply can't compare.
//
// Several goroutines may call Apply, at any time.
func (s *Server) Apply(cfg Config, listeners ...Listener) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	before := s.policy.Load()
	listenings := make(map[*edge.Listening]*edge.Listening, len(before.listenings))
	for l, with := range before.listenings {
		if slices.Contains(s.listeners, l) || l.Open() > 0 {
			listenings[l] = with
		}
	}
	own := s.edge.Own()
	listenings[own] = own.With(Listener{TrustedProxies: cfg.TrustedProxies, LoopbackOnly: cfg.LoopbackOnly})
	keys := s.fixed(&cfg)
	awaited := s.awaited
	if len(listeners) > 0 {
		var fixed []string
		awaited, fixed = s.applyListeners(listenings, listeners)
		keys = append(keys, fixed...)
	}
	if len(keys) > 0 {
		slices.Sort(keys)
		return &RestartError{slices.Compact(keys)}
	}
	p, err := s.newPolicy(&cfg, before)
	if err != nil {
		return err
	}
	p.listenings = listenings
	change, err := s.changeBackends(&cfg, &p.limits) // the last that can fail: it begins to connect
	if err != nil {
		return err
	}
	s.awaited, s.backends = awaited, change.to
	s.policy.Store(p)
	s.registry.forgetRoutes()
	s.account.SetBounds(p.limits.BufferedBytes, p.memory)
	before.users.replace(p.users, func() {
		change.end()
		if before.auth != p.auth {
			before.auth.retire()
		}
	})
	if before.fallback != nil && before.fallback != p.fallback {
		before.fallback.Retire()
	}
	return nil
}

// fixed returns the keys of what differs from the start and can't change. An http.Server
// keeps its bound on headers, below which the policy judges each call. net/http's HTTP/2
// has no hooks, so it keeps more.
func (s *Server) fixed(cfg *Config) (keys []string) {
	standard, start, now := s.cfg.StandardHTTP2, &s.cfg.Limits, withDefaults(cfg.Limits)
	for key, differs := range map[string]bool{
		"http2_server":                               cfg.StandardHTTP2 != standard,
		report.KeyHeaderBytes:                        now.HeaderBytes > start.HeaderBytes,
		report.KeyLimits + "calls_per_connection":    standard && now.CallsPerConnection != start.CallsPerConnection,
		report.KeySlowConsumer:                       standard && now.SlowConsumerTimeout != start.SlowConsumerTimeout,
		report.KeyLimits + "connection_idle_timeout": standard && now.ConnectionIdleTimeout != start.ConnectionIdleTimeout,
		report.KeyLimits + "connection_max_age":      standard && now.ConnectionIdleTimeout == 0 && now.ConnectionMaxAge != start.ConnectionMaxAge,
	} {
		if differs {
			keys = append(keys, key)
		}
	}
	return keys
}

// keyListenTLS names the setting of a listener that can never change.
const keyListenTLS = "listen[].tls"

// fixedOfListener is fixed for a listener that is served.
func (s *Server) fixedOfListener(l *edge.Listening, rules Listener) (keys []string) {
	if s.cfg.StandardHTTP2 && rules.CallsPerConnection != l.CallsPerConnection {
		keys = append(keys, report.KeyListenerLimits+"calls_per_connection")
	}
	if rules.TLS != l.TLS {
		keys = append(keys, keyListenTLS)
	}
	return keys
}

// applyListeners puts the new rules of each listener that is served into to. It
// returns the listeners that aren't, by name, and the keys of what can't change.
// s.applying is held.
func (s *Server) applyListeners(to map[*edge.Listening]*edge.Listening, listeners []Listener) (awaited map[string]Listener, keys []string) {
	awaited = make(map[string]Listener, len(listeners))
	for _, l := range listeners {
		awaited[l.Name] = l
	}
	if len(awaited) != len(listeners) {
		return nil, []string{"listen"} // two share a name
	}
	for _, l := range s.listeners {
		rules, ok := awaited[l.Name]
		if !ok {
			return nil, []string{"listen"} // it is missing, or two that are served share the name
		}
		delete(awaited, l.Name)
		i := slices.IndexFunc(listeners, func(of Listener) bool { return of.Name == l.Name })
		for _, key := range s.fixedOfListener(l, rules) {
			keys = append(keys, strings.Replace(key, "[]", fmt.Sprintf("[%d]", i), 1))
		}
		to[l] = l.With(rules)
	}
	return awaited, keys
}

// newPolicy returns the policy of a Config, or an error that says what is wrong with
// it. before is the policy to replace, or nil. s.applying is held, except while the
// Server is being made.
func (s *Server) newPolicy(cfg *Config, before *policy) (*policy, error) {
	p, err := newRules(cfg)
	if err != nil {
		return nil, err
	}
	p.users = newPolicyUsers(before != nil)
	p.auth = newPolicyAuthenticator(cfg.Authenticator, before)
	if p.fallback, p.fallbackURL, err = s.fallbackProxy(cfg, p.limits.HeaderBytes, before); err != nil {
		return nil, err
	}
	p.router.refusals, p.router.upstreams = s.refusals, s.upstreams
	p.quotas = s.quotas.With(quota.Shared(&p.limits), p.limits.Address, cfg.TryLimits).WithIdentities(p.limits.Identity)
	var named methodLimits
	var routed *routes
	if before != nil {
		named, routed = before.methods, before.routes
	}
	if p.methods, err = s.methods.limits(cfg.MethodLimits, p.quotas, named); err != nil {
		return nil, err
	}
	s.routes.count(p.routes, cfg.Routes, p.quotas, routed)
	return p, nil
}

// newRules returns a policy with what a Config alone determines. It counts nothing, and
// knows no backend but by name.
func newRules(cfg *Config) (*policy, error) {
	p := &policy{
		limits:            withDefaults(cfg.Limits),
		memory:            cfg.Memory,
		vouched:           headers.NewVouched(cfg.VouchedHeaders),
		tryOrigins:        cfg.TryOrigins,
		tryAuth:           cfg.TryAuthenticator,
		authCookies:       cfg.AuthCookies,
		bearerSubprotocol: cfg.BearerSubprotocol,
		pathPrefix:        cfg.PathPrefix,
		detailedErrors:    cfg.DetailedErrors,
		drainSpread:       cfg.DrainSpread,
		forwardCookies:    cfg.ForwardCookies,
		forwardSetCookies: cfg.ForwardSetCookies,
		forwardClientCert: cfg.ForwardClientCert,
	}
	if prefix := p.pathPrefix; prefix != "" && (prefix[0] != '/' || prefix[len(prefix)-1] == '/') {
		return nil, fmt.Errorf("path prefix %q: it must begin with a slash and not end with one", prefix)
	}
	p.path = newPathRules(cfg)
	var err error
	if p.origins, err = gate.NewOrigins(cfg.AllowOrigins, cfg.Hosts); err != nil {
		return nil, err
	}
	methods, err := routing.NewMethodPolicy(cfg.AllowMethods, cfg.DenyMethods)
	if err != nil {
		return nil, err
	}
	p.connect.pass = cfg.PassConnectJSON
	if p.connect.get, err = routing.NewMethodPatterns(cfg.ConnectGet); err != nil {
		return nil, err
	}
	backends, err := cfg.backends()
	if err != nil {
		return nil, err
	}
	p.router = router{policy: methods, try: cfg.TryMethods, maxCalls: maxCalls(backends)}
	if len(cfg.Routes) == 0 {
		p.router.unrouted, err = unrouted(backends)
	}
	if err != nil {
		return nil, err
	}
	p.routes, err = newRoutes(cfg)
	credentials := slices.Clip(cfg.CredentialHeaders)
	if cfg.Authenticator != nil {
		credentials = append(credentials, "authorization")
	}
	p.encoded = p.routes.askedFor().With(credentials) // a credential that is damaged must be refused, not missed
	return p, err
}
