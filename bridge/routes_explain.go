package bridge

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/routing"
)

// A RouteRequest is a request whose route is explained.
type RouteRequest struct {
	URL       *url.URL    // with the host and the path of the method
	Header    http.Header // of a client that is no trusted proxy
	Listener  string      // the listener's name
	Transport string      // as Transports has it
}

// A RouteAnswer is what a configuration does with a request.
type RouteAnswer struct {
	Host, Path string              // as routes compare them
	Candidates []routing.Candidate // all routes; see routing.Table.Explain

	Route   int    // the index of the call's route; -1: the configuration has no routes, or none matches
	Method  string // as the backend receives it; "": no route matches
	Backend string // "": the route splits its calls, and the request lacks the key

	Denied       string // the key that excludes the method, or ""
	MethodLimits int    // the index of the Config.MethodLimits that apply, or -1
	Origins      int    // the index of the route whose AllowOrigins apply; -1: Config's
	Origin       error  // why the page in the header may not call; nil: it may, or there is none
}

// ExplainRoute returns what a Server with the configuration would do with a request,
// apart from what depends on the connection. It fails if the configuration's routes
// are wrong, or if the request is no call.
func ExplainRoute(cfg *Config, r RouteRequest) (*RouteAnswer, error) {
	rs, err := newRoutes(cfg)
	if err != nil {
		return nil, err
	}
	methods, err := newMethodPolicy(cfg.AllowMethods, cfg.DenyMethods)
	if err != nil {
		return nil, err
	}
	p := &policy{routes: rs, forwardCookies: cfg.ForwardCookies}
	if p.origins, err = gate.NewOrigins(cfg.AllowOrigins, cfg.Hosts); err != nil {
		return nil, err
	}
	if _, _, ok := gate.ParseAuthority(r.URL.Host); !ok {
		return nil, fmt.Errorf("%q is no host: %s", r.URL.Host, malformedAuthority)
	}
	md, err := requestMetadata(r.Header, false, cfg.ForwardCookies, report.SizeLimit{Bytes: noLimit, Key: report.KeyHeaderBytes})
	if err != nil {
		return nil, err
	}
	newVouchedNames(cfg.VouchedHeaders).strike(md, false)
	a := &RouteAnswer{Host: routedHost(r.URL.Host), Route: -1, Origins: -1, MethodLimits: -1}
	parse := parsePath
	if rs == nil {
		parse = parseMethod
	}
	path, ok := parse(r.URL.EscapedPath(), cfg.PathPrefix)
	if !ok {
		return nil, fmt.Errorf("the path %q is not a method's: want %s/package.Service/Method", r.URL.EscapedPath(), cfg.PathPrefix)
	}
	a.Path = path
	var first, last *route
	if rs == nil {
		backends, err := cfg.backends()
		if err != nil {
			return nil, err
		}
		a.Method = path
		if a.Backend, err = unrouted(backends); err != nil {
			return nil, err
		}
	} else {
		first, last = a.explainRoutes(rs, r, md)
	}
	if a.Method == "" {
		return a, nil
	}
	if !methods.allows(a.Method) {
		a.Denied = methods.deniedBy(a.Method)
	}
	a.MethodLimits = slices.IndexFunc(cfg.MethodLimits, func(m MethodQuota) bool {
		patterns, err := methodPatterns([]string{m.Pattern})
		return err == nil && matchesAny(patterns, a.Method[1:])
	})
	a.explainOrigins(cfg, p, r, first, last)
	return a, nil
}

// explainRoutes returns the route that matches without metadata, and the call's own.
func (a *RouteAnswer) explainRoutes(rs *routes, r RouteRequest, md metadata.MD) (first, last *route) {
	facts := &routing.Facts{Host: a.Host, Path: a.Path, Listener: r.Listener, Transport: r.Transport}
	if i := rs.table.Find(facts); i >= 0 {
		first = &rs.of[i]
	}
	facts.Metadata = md
	a.Candidates = rs.table.Explain(facts)
	if a.Route = rs.table.Find(facts); a.Route < 0 {
		return first, nil
	}
	last = &rs.of[a.Route]
	a.Method = rs.table.Rewrite(a.Route, a.Path)
	if key := md[last.sticky]; last.split == nil || len(key) > 0 {
		a.Backend = last.backendFor(key, func(string) bool { return true })
	}
	return first, last
}

// explainOrigins judges the page as the arrival of the request does, and settle.
func (a *RouteAnswer) explainOrigins(cfg *Config, p *policy, r RouteRequest, first, last *route) {
	asker := gate.Asker{
		Origins: r.Header["Origin"],
		Site:    r.Header.Get("Sec-Fetch-Site"),
		Cookies: cfg.ForwardCookies && len(r.Header["Cookie"]) > 0,
		Host:    r.URL.Host,
		Secure:  r.URL.Scheme == "https" || r.URL.Scheme == "wss",
	}
	for _, o := range []*gate.Origins{p.originsOf(first), p.originsOf(last)} {
		if v := o.Judge(asker); v.Denial != nil {
			a.Origin = errors.New(v.Denial.Text)
		}
	}
	for i := range cfg.Routes {
		if last.origins != nil && cfg.Routes[i].AllowOrigins != nil && p.routes.of[i].origins == last.origins {
			a.Origins = i
		}
	}
}
