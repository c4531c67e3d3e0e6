package bridge

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// facts are what a policy decides by: what is asked for, and the listener of the caller.
type facts struct {
	*caller
	host        string // as it came
	path        string // of the request target, as it came
	transport   string // as routes have it; "": a browser's preflight, or no call
	opensTunnel bool   // the calls inside will have facts of their own
	bare        bool   // no other protocol claims it: a route of bare messages may have it
	post        bool
	asker       gate.Asker  // the page
	metadata    metadata.MD // nil: unknown yet
}

// A decision is what a policy has decided about a request or a call.
type decision struct {
	route    *route           // nil: none matches, or the policy has no routes
	Method   string           // as the backend receives it; "": the path names none
	limit    *methodLimit     // nil: none, or the backend's name of the method isn't known yet
	messages report.SizeLimit // of each message; zero: the upstream's
	headers  report.SizeLimit // of the metadata, either way
	origin   gate.Access      // of the page
	final    bool             // metadata was known, or no route asks for it
}

// decide returns what the policy decides by the facts. It reads nothing else, and changes
// nothing. A request is decided when it arrives, without metadata, and its call again when
// the metadata is known (settle). docs/decisions/0033 says why.
func (p *policy) decide(f *facts) decision {
	d := decision{final: f.opensTunnel || p.routes == nil || f.metadata != nil || !p.routes.table.NeedsMetadata()}
	switch {
	case f.opensTunnel:
		d.origin = p.judgeTunnel(f.asker)
		return d
	case p.path.has(f.path):
		return p.decidePath(f)
	case p.path.partOfPage(f) != nil:
		return decision{final: true}
	case p.routes == nil:
		d.Method, _ = routing.ParseMethod(f.path, p.pathPrefix)
		d.limit = p.methods.match(d.Method)
	default:
		if d.route, d.Method = p.find(f); d.route != nil {
			d.limit = p.methods.match(d.Method)
		}
	}
	d.messages, d.headers = p.sizes(f.listening, d.limit, d.route)
	d.origin = p.originsOf(d.route).Judge(f.asker)
	return d
}

// find returns the route of a request and the method, or nil and the method that the end
// of the path names.
func (p *policy) find(f *facts) (*route, string) {
	if f.bare && p.routes.messages {
		if r, method := p.routes.choose(p.asked(f, messageName)); r != nil {
			if f.post && r.message.PollPath != "" {
				method = r.message.PollPath
			}
			return r, method
		}
	}
	q := p.asked(f, f.transport)
	r, method := p.routes.choose(q)
	if r == nil && q.Path != "" {
		method = routing.LastElements(q.Path)
	}
	return r, method
}

// asked returns what the table of routes is asked about a request by the transport. Its
// path is empty if it can't be one of the transport.
func (p *policy) asked(f *facts, transport string) routing.Facts {
	q := routing.Facts{Host: routedHost(f.host), Listener: f.listening.Name, Transport: transport, Metadata: f.metadata}
	if transport == messageName {
		if path, ok := routing.ParseMessagePath(f.path, p.pathPrefix); ok {
			q.Path = routing.MessagePath(path)
		}
	} else if path, ok := routing.ParsePath(f.path, p.pathPrefix); ok {
		q.Path = path
	}
	return q
}

// choose returns the route for the facts, with the method that the backend receives, or
// nil.
func (rs *routes) choose(q routing.Facts) (r *route, method string) {
	i := rs.table.Find(&q)
	if i < 0 {
		return nil, ""
	}
	method = rs.table.Rewrite(i, q.Path)
	if m := rs.byIndex[i].message; m != nil && m.MethodPath != "" {
		method = m.MethodPath
	} else if _, ok := routing.ParseMethod(method, ""); m != nil && !ok {
		return nil, "" // the rest of its path names no method
	}
	return &rs.byIndex[i], method
}

// routedHost returns a Host as routes compare it.
func routedHost(authority string) string {
	host, _, _ := gate.ParseAuthority(authority)
	if strings.Contains(host, ":") {
		if addr, err := netip.ParseAddr(host); err == nil {
			return addr.WithZone("").String()
		}
	}
	return strings.ToLower(host)
}

// sizes returns the limits of a call's messages and metadata. m and r may be nil. A
// method's limit of messages replaces the general one. A listener's limit applies to every
// call that comes in there, and a route's to all of its calls, if they are lower.
func (p *policy) sizes(l *edge.Listening, m *methodLimit, r *route) (messages, headers report.SizeLimit) {
	messages, headers = report.SizeLimit{Bytes: p.limits.MessageBytes, Key: report.KeyMessageBytes}, report.SizeLimit{Bytes: p.limits.HeaderBytes, Key: report.KeyHeaderBytes}
	if m != nil {
		if m.messageBytes > 0 {
			messages = report.SizeLimit{Bytes: m.messageBytes, Key: report.KeyMethodMessageBytes}
		}
		headers = headers.Or(m.headerBytes, report.KeyMethodHeaderBytes)
	}
	messages, headers = messages.Or(l.MessageBytes, report.KeyListenerMessageBytes), headers.Or(l.HeaderBytes, report.KeyListenerHeaderBytes)
	if r != nil {
		messages, headers = messages.Or(r.messageBytes, report.KeyRouteMessageBytes), headers.Or(r.headerBytes, report.KeyRouteHeaderBytes)
	}
	return messages, headers
}

// originsOf returns the origins that judge the page of a request with the route, which may
// be nil.
func (p *policy) originsOf(r *route) *gate.Origins {
	if r != nil && r.origins != nil {
		return r.origins
	}
	return &p.origins
}

// judgeTunnel judges the page that opens a tunnel. The calls inside may have any
// route, and each is judged by its own. So a tunnel may be opened by every page that
// some route allows.
func (p *policy) judgeTunnel(asker gate.Asker) gate.Access {
	v := p.origins.Judge(asker)
	if v.Allowed || p.routes == nil {
		return v
	}
	for _, o := range p.routes.own {
		if by := o.Judge(asker); by.Allowed {
			return by
		}
	}
	return v
}

// denied returns the fault of a page that may not call.
func (d *decision) denied() *report.Fault {
	f := *d.origin.Denial
	f.Detail = d.origin.Origin
	switch {
	case f.Hint != "":
	case d.route != nil && d.route.origins != nil:
		f.Key, f.Hint = report.KeyRouteOrigins, "to allow it: add "+d.origin.Origin+" to "+report.Named(report.KeyOrigins)+" of the route "+d.route.name+", or of the route that it has them from"
	default:
		f.Hint = "to allow it: " + report.ToSet(report.KeyOrigins, d.origin.Origin)
	}
	return &f
}

// noRoute returns why a call has no route. Only authorize asks: a client that may not
// call here isn't told which routes there are.
func (p *policy) noRoute(f *facts) error {
	q := p.asked(f, f.transport)
	calls := q.Transport
	if q.Listener != "" { // there are several
		calls += " on the listener " + q.Listener
	}
	fault := &report.Fault{
		Reason: report.ReasonNoRoute, Key: report.KeyRoutes, Detail: q.Host + q.Path,
		Hint:   "add a route that matches calls by " + calls + ", or correct the address in the client",
		Text:   fmt.Sprintf("no route matches the host %q and the path %q (%s)", q.Host, q.Path, report.Named(report.KeyRoutes)),
		Remedy: "call another host or method, or add a route",
	}
	whole := q.Path
	q.Path = routing.LastElements(whole)
	if q.Path != whole && p.routes.table.Find(&q) >= 0 {
		fault.Remedy = "did you mean " + p.pathPrefix + q.Path + "? Check the client's base URL for a path"
	}
	return fault
}
