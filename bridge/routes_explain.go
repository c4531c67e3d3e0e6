package bridge

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/routing"
)

// A RouteRequest is a request whose route is explained.
type RouteRequest struct {
	URL       *url.URL    // with the host and the path of the method
	Header    http.Header // of a client that is no trusted proxy
	Listener  string      // the listener's name
	Transport string      // as Transports has it
	Loopback  bool        // the listener is on loopback, and no certificate has other names
}

// A RouteAnswer is what a configuration does with a request.
type RouteAnswer struct {
	Host, Path  string              // as routes compare them; Path is empty if it isn't a method's
	UnknownHost bool                // a listener on loopback refuses the request for its host
	Candidates  []routing.Candidate // all routes; see routing.Table.Explain

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
// are wrong, or if the request is no call and there is no web server.
func ExplainRoute(cfg *Config, r RouteRequest) (*RouteAnswer, error) {
	rs, err := newRoutes(cfg)
	if err != nil {
		return nil, err
	}
	methods, err := routing.NewMethodPolicy(cfg.AllowMethods, cfg.DenyMethods)
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
	md, _, err := headers.Request(r.Header, false, cfg.ForwardCookies, report.SizeLimit{Bytes: quota.NoLimit, Key: report.KeyHeaderBytes}, rs.askedFor())
	if err != nil {
		return nil, err
	}
	headers.NewVouched(cfg.VouchedHeaders).Strike(md, false)
	r.vouch(md)
	a := &RouteAnswer{Host: routedHost(r.URL.Host), Route: -1, Origins: -1, MethodLimits: -1}
	a.UnknownHost = r.Loopback && !p.origins.AllowsHost(r.URL.Host)
	parse := routing.ParsePath
	switch {
	case rs == nil:
		parse = routing.ParseMethod
	case r.Transport == messageName:
		parse = routing.ParseMessagePath
	}
	path, ok := parse(r.URL.EscapedPath(), cfg.PathPrefix)
	switch {
	case !ok && cfg.FallbackURL != "":
		return a, nil
	case !ok:
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
	if !methods.Allows(a.Method) {
		a.Denied = methods.DeniedBy(a.Method)
	}
	a.MethodLimits = slices.IndexFunc(cfg.MethodLimits, func(m MethodQuota) bool {
		patterns, err := routing.NewMethodPatterns([]string{m.Pattern})
		return err == nil && patterns.Match(a.Method)
	})
	a.explainOrigins(cfg, p, r, first, last)
	return a, nil
}

// vouch adds what culvert itself says about the client, as far as conditions of routes
// can tell.
func (r *RouteRequest) vouch(md metadata.MD) {
	forward := gate.Forwarding{For: "unknown", Proto: "http", Host: r.URL.Host, Via: "1.1 culvert"}
	if r.secure() {
		forward.Proto = "https"
	}
	if r.Transport == "grpc" || r.Transport == tunnelName {
		forward.Via = "2 culvert"
	}
	headers.SetUserAgent(md, r.Header)
	headers.SetForwarding(md, forward)
}

func (r *RouteRequest) secure() bool { return r.URL.Scheme == "https" || r.URL.Scheme == "wss" }

// explainRoutes returns the route that matches without metadata, and the call's own.
func (a *RouteAnswer) explainRoutes(rs *routes, r RouteRequest, md metadata.MD) (first, last *route) {
	facts := &routing.Facts{Host: a.Host, Path: a.Path, Listener: r.Listener, Transport: r.Transport}
	if r.Transport == messageName {
		facts.Path = routing.MessagePath(a.Path)
	}
	first, _ = rs.choose(facts)
	facts.Metadata = md
	a.Candidates = rs.table.Explain(facts)
	if last, a.Method = rs.choose(facts); last == nil {
		return first, nil
	}
	a.Route = a.Candidates[0].Route
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
		Secure:  r.secure(),
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
