package bridge

import (
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// This file sends the calls of culvert.v1.Path and culvert.v1.Session to the services of these
// names in culvert itself (package path): they have a route that no configuration has. Package
// path also has the doctor's page. docs/decisions/0058 and 0066 say why.

// pathRules are what a policy says about culvert.v1.Path and culvert.v1.Session.
type pathRules struct {
	prefix  string // of the paths of Path's methods; "": they are the backend's
	session string // of the paths of Session's methods
	route   *route
	doctor  bool
	page    string // the path of the doctor's page; "": there is none
}

func newPathRules(cfg *Config) pathRules {
	p := pathRules{doctor: cfg.Doctor}
	if cfg.Doctor {
		p.page = cfg.PathPrefix + path.Page
	}
	b := path.BoundsFor(cfg.Doctor)
	if !cfg.PassPath {
		p.prefix = cfg.PathPrefix + "/" + path.Name + "/"
	}
	p.session = cfg.PathPrefix + "/" + path.Session + "/"
	p.route = &route{treatment: &treatment{bounds: &b, timeout: &routeTimeout{b.Time, b.Late()}}}
	return p
}

// has reports whether culvert answers the path itself.
func (p *pathRules) has(path string) bool {
	return p.prefix != "" && strings.HasPrefix(path, p.prefix) || strings.HasPrefix(path, p.session)
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

// own reports whether the route is that of culvert's own services. r may be nil.
func (r *route) own() bool { return r != nil && r.bounds != nil }

// decidePath decides about a call of culvert's own services: limits and origins apply to it.
func (p *policy) decidePath(f *facts) decision {
	d := decision{route: p.path.route, final: true}
	d.Method, _ = routing.ParseMethod(f.path, p.pathPrefix)
	d.limit = p.methods.match(d.Method)
	d.messages, d.headers = p.sizes(f.listening, d.limit, nil)
	d.messages = d.messages.Or(d.route.bounds.MessageBytes, report.KeyDoctor)
	d.origin = p.origins.Judge(f.asker)
	return d
}

// authorize returns why the services don't have a method, or nil.
func (p *pathRules) authorize(method string, tunnel bool) error {
	if method == path.Echo || method == path.Ticks || method == path.Report && p.doctor || method == path.Refresh && tunnel {
		return nil
	}
	f := report.New(report.ReasonNoRoute, "culvert has no method "+method[1:]+" here")
	switch f.Remedy = "call " + path.Echo[1:]; method {
	case path.Report:
		f.Remedy = "set " + report.Named(report.KeyDoctor)
	case path.Refresh:
		f.Remedy = "call it inside a tunnel (" + tunnelName + "), whose credential it renews"
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
