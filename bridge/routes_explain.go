package bridge

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
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
	Host, Path  string             // as routes compare them; Path is empty if it isn't a method's
	UnknownHost bool               // a listener on loopback refuses the request for its host
	Candidates  []report.Candidate // all routes; see routing.Table.Explain

	Own     bool   // culvert answers the call itself: it is one of culvert.v1.Path
	Route   int    // the index of the call's route; -1: the configuration has no routes, or none matches
	Method  string // as the backend receives it; "": no route matches
	Backend string // "": the route splits its calls, and the request lacks the key

	Denied       string // the key that excludes the method, or ""
	MethodLimits int    // the index of the Config.MethodLimits that apply, or -1
	Origins      int    // the index of the route whose AllowOrigins apply; -1: Config's
	Origin       error  // why the page in the header may not call; nil: it may, or there is none
}

// ExplainRoute returns what a Server with the configuration would do with a request,
// apart from what depends on the connection. It decides twice, as a Server does. It fails
// if the configuration is wrong, or if the request is no call and there is no web server.
func ExplainRoute(cfg *Config, r RouteRequest) (*RouteAnswer, error) {
	p, err := newRules(cfg)
	if err != nil {
		return nil, err
	}
	if p.methods, err = (methodCounts{}).limits(cfg.MethodLimits, nil, nil); err != nil {
		return nil, err
	}
	if _, _, ok := gate.ParseAuthority(r.URL.Host); !ok {
		return nil, fmt.Errorf("%q is no host: %s", r.URL.Host, malformedAuthority)
	}
	md, _, err := headers.Request(r.Header, false, p.forwardCookies, report.SizeLimit{Bytes: quota.NoLimit, Key: report.KeyHeaderBytes}, p.encoded, 0)
	if err != nil {
		return nil, err
	}
	p.vouched.Strike(md, false)
	r.vouch(md)
	f := r.facts(p)
	first := p.decide(&f)
	f.metadata = md
	last, q := p.decide(&f), p.asked(&f, f.transport)
	a := &RouteAnswer{Host: q.Host, Path: q.Path, Route: -1, Origins: -1, MethodLimits: -1}
	a.UnknownHost = r.Loopback && !p.origins.AllowsHost(r.URL.Host)
	switch {
	case last.route.own():
		a.Own, a.Path = true, last.Method
	case p.routes == nil:
		a.Path, a.Backend = last.Method, p.router.unrouted
	case r.Transport == messageName:
		a.Path = strings.TrimPrefix(q.Path, routing.MessagePath(""))
	}
	switch {
	case a.Path == "" && cfg.FallbackURL != "":
		return a, nil
	case a.Path == "":
		return nil, fmt.Errorf("the path %q is not a method's: want %s/package.Service/Method", f.path, p.pathPrefix)
	case p.routes != nil && !a.Own:
		a.Candidates = p.routes.table.Explain(&q)
		if last.route == nil {
			return a, nil
		}
		a.explainRoute(cfg, p.routes, last.route, md)
	}
	if a.Method = last.Method; !a.Own {
		a.Denied = p.router.policy.DeniedBy(last.Method)
	} else if p.path.authorize(last.Method, true) != nil {
		a.Denied = report.KeyDoctor
	}
	for i := range p.methods {
		if &p.methods[i] == last.limit {
			a.MethodLimits = i
		}
	}
	for _, d := range []decision{first, last} { // a call must pass the origins of both
		if d.origin.Denial != nil {
			a.Origin = errors.New(cfg.Words.Say(d.origin.Denial.Text))
		}
	}
	return a, nil
}

// facts returns what a Server decides the request by, without its metadata.
func (r *RouteRequest) facts(p *policy) facts {
	return facts{
		caller: &caller{listening: edge.NewListening(Listener{Name: r.Listener})}, host: r.URL.Host, path: r.URL.EscapedPath(), transport: r.Transport,
		asker: p.asker(r.Header, r.URL.Host, r.secure()),
	}
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

// explainRoute sets what the call's route determines.
func (a *RouteAnswer) explainRoute(cfg *Config, rs *routes, to *route, md metadata.MD) {
	a.Route = a.Candidates[0].Route
	if key := md[to.sticky]; to.split == nil || len(key) > 0 {
		a.Backend = to.backendFor(key, func(string) bool { return true })
	}
	for i := range cfg.Routes {
		if to.origins != nil && cfg.Routes[i].AllowOrigins != nil && rs.byIndex[i].origins == to.origins {
			a.Origins = i
		}
	}
}
