package bridge

import (
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// This file sends the calls of culvert.v1.Path to the service of that name in culvert itself
// (package path): they have a route that no configuration has. Package path also has the
// doctor's page. docs/decisions/0058 says why.

// pathRules are what a policy says about culvert.v1.Path.
type pathRules struct {
	prefix string // of the paths of its methods
	route  *route // nil: they are the backend's
	doctor bool
	page   string // the path of the doctor's page; "": there is none
}

func newPathRules(cfg *Config) pathRules {
	p := pathRules{doctor: cfg.Doctor}
	if cfg.Doctor {
		p.page = cfg.PathPrefix + path.Page
	}
	if cfg.PassPath {
		return p
	}
	b := path.BoundsFor(cfg.Doctor)
	p.prefix = cfg.PathPrefix + "/" + path.Name + "/"
	p.route = &route{treatment: &treatment{bounds: &b, timeout: &routeTimeout{b.Time, b.Late()}}}
	return p
}

// has reports whether culvert answers the path itself.
func (p *pathRules) has(path string) bool {
	return p.route != nil && strings.HasPrefix(path, p.prefix)
}

// partOfPage returns the file of the doctor's page that a request asks for, or nil. Routes and
// the web server in fallback don't get such a request.
func (p *pathRules) partOfPage(f *facts) *path.PageFile {
	if p.page == "" || !f.asker.Get {
		return nil
	}
	name, ok := strings.CutPrefix(f.path, p.page)
	if !ok {
		return nil
	}
	return path.PartOfPage(name)
}

// own reports whether the route is that of culvert.v1.Path. r may be nil.
func (r *route) own() bool { return r != nil && r.bounds != nil }

// decidePath decides about a call of culvert.v1.Path: limits and origins apply to it.
func (p *policy) decidePath(f *facts) decision {
	d := decision{route: p.path.route, final: true}
	d.Method, _ = routing.ParseMethod(f.path, p.pathPrefix)
	d.limit = p.methods.match(d.Method)
	d.messages, d.headers = p.sizes(f.listening, d.limit, nil)
	d.messages = d.messages.Or(d.route.bounds.MessageBytes, report.KeyDoctor)
	d.origin = p.origins.Judge(f.asker)
	return d
}

// authorize returns why the service doesn't have a method, or nil.
func (p *pathRules) authorize(method string) error {
	if method == path.Echo || method == path.Ticks || method == path.Report && p.doctor {
		return nil
	}
	f := report.New(report.ReasonNoRoute, "culvert has no method "+method[1:]+" here")
	if f.Remedy = "call " + path.Echo[1:]; method == path.Report {
		f.Remedy = "set " + report.Named(report.KeyDoctor)
	}
	return f
}

// pathRoute returns the route of one call, which tells the service of it.
func (a *arrival) pathRoute(r *http.Request) *route {
	var facts *path.Facts
	if a.Method == path.Report && a.policy.path.doctor {
		facts = &path.Facts{Version: a.s.cfg.Version, Transport: a.peer.Transport, HTTP: r.Proto, TLS: a.peer.TLS, Certificates: a.on.Certificates(), Header: r.Header}
		if a.tunnel {
			facts.HTTP = "HTTP/1.1" // that of the WebSocket
		}
	}
	own := *a.policy.path.route.treatment
	own.set = path.Metadata(a.peer.Addr, a.policy.path.doctor, facts)
	return &route{treatment: &own}
}
