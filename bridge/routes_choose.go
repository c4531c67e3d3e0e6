package bridge

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/routing"
)

// A choice is how a request's route is selected. Requests have none if the policy has no
// routes.
type choice struct {
	facts     routing.Facts
	asker     gate.Asker
	listening *edge.Listening
}

// chooseRoute selects the route of a request by the facts that are known at its
// arrival: all but the metadata. It also sets the method, if the path has one.
func (a *arrival) chooseRoute(r *http.Request, t *transport) {
	ch := &choice{listening: a.listening}
	a.choice = ch
	ch.facts = routing.Facts{Host: routedHost(a.host), Listener: a.listening.Name}
	switch {
	case a.tunnel:
		ch.facts.Transport = tunnelName
	case t != nil:
		ch.facts.Transport = t.name
	}
	if a.bind(r, t) {
		return
	}
	var ok bool
	if ch.facts.Path, ok = routing.ParsePath(r.URL.EscapedPath(), a.policy.pathPrefix); !ok {
		return
	}
	if a.route, a.method = a.policy.routes.choose(&ch.facts); a.route == nil {
		a.method = routing.LastElements(ch.facts.Path) // until settle finds a route, or there is none
	}
}

// choose returns the route for the facts, with the method that the backend receives, or
// nil.
func (rs *routes) choose(f *routing.Facts) (r *route, method string) {
	i := rs.table.Find(f)
	if i < 0 {
		return nil, ""
	}
	method = rs.table.Rewrite(i, f.Path)
	if m := rs.of[i].message; m != nil && m.method != "" {
		method = m.method
	} else if _, ok := routing.ParseMethod(method, ""); m != nil && !ok {
		return nil, "" // the rest of its path names no method
	}
	return &rs.of[i], method
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

// origins returns the origins that judge the page of a request.
func (a *arrival) origins() *gate.Origins { return a.policy.originsOf(a.route) }

func (p *policy) originsOf(r *route) *gate.Origins {
	if r != nil && r.origins != nil {
		return r.origins
	}
	return &p.origins
}

// judgeTunnel judges the page that opens a tunnel. The calls inside may have any
// route, and each is judged by its own. So a tunnel may be opened by every page that
// some route allows.
func (a *arrival) judgeTunnel(asker gate.Asker) gate.Access {
	v := a.policy.origins.Judge(asker)
	for _, o := range a.policy.routes.own {
		if v.Allowed {
			break
		}
		if by := o.Judge(asker); by.Allowed {
			v = by
		}
	}
	return v
}

// noRoute returns why a call has no route. Only authorize asks: a client that may not
// call here isn't told which routes there are.
func (p *policy) noRoute(ch *choice) error {
	host, path := ch.facts.Host, ch.facts.Path
	calls := ch.facts.Transport
	if ch.facts.Listener != "" { // there are several
		calls += " on the listener " + ch.facts.Listener
	}
	f := &report.Fault{
		Reason: report.ReasonNoRoute, Key: report.KeyRoutes, Detail: host + path,
		Hint:   "add a route that matches calls by " + calls + ", or correct the address in the client",
		Text:   fmt.Sprintf("no route matches the host %q and the path %q (%s)", host, path, report.KeyRoutes),
		Remedy: "call another host or method, or add a route",
	}
	ch.facts.Path = routing.LastElements(path)
	if ch.facts.Path != path && p.routes.table.Find(&ch.facts) >= 0 {
		f.Remedy = "did you mean " + p.pathPrefix + ch.facts.Path + "? Check the client's base URL for a path"
	}
	return f
}

// settle selects the call's route for good: now its metadata is known. It is called
// once, after the metadata is read and before a message is.
//
// Until here the call had the route that matches without metadata. If another one
// wins, all that the first decided is decided again: the method, the limits and
// whether the page may call.
func (s *Server) settle(c *call) (err error) {
	defer s.catch(c, "the beginning of a call", &err)
	ch := c.choice
	if ch == nil {
		return nil
	}
	if rs := c.policy.routes; rs.table.NeedsMetadata() {
		ch.facts.Metadata = c.Metadata
		to, method := rs.choose(&ch.facts)
		ch.facts.Metadata = nil
		if to == nil {
			return nil // authorize refuses the call
		}
		if to != c.route {
			if err := s.reroute(c, to, method); err != nil {
				return err
			}
		}
	}
	if c.route == nil {
		return nil // likewise
	}
	c.choice = nil // a call may be long
	if t := c.route.timeout; t != nil && (c.Timeout == 0 || t.limit < c.Timeout) {
		c.Timeout, c.late = t.limit, t.cause
	}
	return nil
}

// reroute gives a call another route before it has messages.
func (s *Server) reroute(c *call, to *route, method string) error {
	before := c.route
	c.route, c.Method = to, method
	c.info.Route, c.info.Method = to.name, method
	m := c.policy.methods.of(method)
	c.messages, c.headers = to.sizes(c.policy.sizes(c.choice.listening, m))
	if size := headers.Size(c.Metadata); size > c.headers.Bytes {
		return headers.TooLarge("request", size, c.headers)
	}
	if err := c.use.Move(m.scopeOf(), to.scope, method); err != nil {
		return err
	}
	if judges := c.policy.originsOf(to); judges != c.policy.originsOf(before) {
		return s.judgeAgain(c, judges)
	}
	return nil
}

// judgeAgain judges the page of a call that already passed other origins.
func (s *Server) judgeAgain(c *call, by *gate.Origins) error {
	v := by.Judge(c.choice.asker)
	if v.Denial != nil {
		if err := s.refusals.Unless(c.policy.tryOrigins, c.route.denied(v), c.Peer.Addr); err != nil {
			return err
		}
	}
	if !v.Credentials {
		delete(c.Metadata, "cookie")
		c.setCookies = false
	}
	return nil
}

// denied returns the fault of a page that may not make the calls of a route, which may be
// nil.
func (r *route) denied(v gate.Access) *report.Fault {
	f := *v.Denial
	f.Detail = v.Origin
	switch {
	case f.Hint != "":
	case r != nil && r.origins != nil:
		f.Key, f.Hint = report.KeyRouteOrigins, "to allow it: add "+v.Origin+" to allow_origins of the route "+r.name+", or of the route that it has them from"
	default:
		f.Hint = "to allow it: --allow-origin " + v.Origin
	}
	return &f
}

// sizes returns the lower of the limits and the route's. r may be nil.
func (r *route) sizes(messages, headers report.SizeLimit) (report.SizeLimit, report.SizeLimit) {
	if r == nil {
		return messages, headers
	}
	return messages.Or(r.messageBytes, report.KeyRouteMessageBytes), headers.Or(r.headerBytes, report.KeyRouteHeaderBytes)
}

// backendFor returns the backend of a call whose metadata has these values under the
// name in sticky. serves is as in routing.Split.
func (r *route) backendFor(key []string, serves func(backend string) bool) string {
	switch {
	case r.split == nil:
		return r.backend
	case len(key) > 0:
		return r.split.PickFor(key, serves)
	}
	return r.split.Pick(rand.Uint64(), serves) //nolint:gosec // a share of the calls is no secret
}

// others returns how many backends besides the call's the route has. r may be nil.
func (r *route) others() int {
	if r == nil || r.split == nil {
		return 0
	}
	return len(r.split.Targets()) - 1
}

// edit sets and removes metadata. The values are the route's own: nobody may write to
// them.
func (r *route) edit(md metadata.MD) {
	r.struck.Strike(md, false)
	for name, values := range r.set {
		md[name] = values
	}
}

// authority returns the :authority that the call's route sets, or "".
func (c *call) authority() string {
	if c.route == nil {
		return ""
	}
	return c.route.authority
}

// retry returns when the call is sent again, or nil.
func (c *call) retry() *Retry {
	if c.route == nil {
		return nil
	}
	return c.route.retry
}
