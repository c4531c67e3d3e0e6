package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/routing"
	"github.com/culvert-grpc/culvert/codec"
)

// A Route sends the calls that it matches to a backend. If several routes match, the
// most specific one wins, as package routing defines it. Conditions for metadata see
// what the client sends, without the changes of an Authenticator.
type Route struct {
	Name  string // unique; logs have it
	Match routing.Match

	// Backend is the name of the backend. Split is set in its place to divide the
	// calls among several. If Sticky is set, it names metadata whose value selects the
	// backend of a split, so that a client stays with it.
	Backend string
	Split   []routing.Target
	Sticky  string

	Rewrite   string // replaces Match.PathPrefix, "/" removes it; empty: the path stays
	Authority string // replaces the :authority that the backend sees; empty: the backend's

	SetMetadata    []MetadataValue // replace a client's values of these names
	RemoveMetadata []string        // names

	Timeout time.Duration // the longest deadline of a call; 0: as the client asks

	// IdleTimeout and MaxAge replace those of Config.Limits. 0: they apply; negative: no
	// limit.
	IdleTimeout, MaxAge time.Duration

	Retry Retry // when a call is sent again; zero: never, unless the backend has surely not seen it

	// Limits of all calls of the route, besides all other limits.
	MessageBytes int // of one message, either way, if that is less
	HeaderBytes  int // of one metadata block, either way, if that is less
	Limits       Quota

	// AllowOrigins replaces Config.AllowOrigins, unless it is nil. A browser's
	// preflight shows neither the metadata nor the transport of the call, so a route
	// that matches one of these can't set it: it has the origins of the route that
	// matches the same without them, else Config's.
	AllowOrigins []string
}

// Row returns the route's part that selects calls.
func (r *Route) Row() routing.Route {
	return routing.Route{Name: r.Name, Match: r.Match, Rewrite: r.Rewrite}
}

// A MetadataValue is one value of metadata.
type MetadataValue struct{ Name, Value string }

// A route is a Route that is ready for use.
type route struct {
	name         string
	backend      string         // if split is nil
	split        *routing.Split // or nil
	sticky       string
	authority    string
	set          metadata.MD
	setBytes     int
	remove       []string
	timeout      *routeTimeout // nil: none
	idleTimeout  time.Duration // as in Route
	maxAge       time.Duration // likewise
	retry        *Retry        // nil: none
	messageBytes int
	headerBytes  int
	scope        *quota.Scope
	origins      *gate.Origins // nil: the policy's
}

// A routeTimeout is the longest deadline of a route's calls.
type routeTimeout struct {
	limit time.Duration
	cause error // ends a call that takes longer
}

// routes are the routes of a policy.
type routes struct {
	table *routing.Table
	of    []route // by the table's index
	own   []*gate.Origins
}

// routeCounts has the counts of routes, by name. It outlives the policies.
type routeCounts map[string]*quota.Scope

// newRoutes returns the routes of a configuration, or nil if it has none. The error is a
// *routing.Mistake, or errors.Join of several.
func newRoutes(cfg *Config) (*routes, error) {
	if len(cfg.Routes) == 0 {
		return nil, nil
	}
	backends, err := cfg.backends()
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(backends))
	for _, b := range backends {
		names[b.Name] = true
	}
	rs := &routes{of: make([]route, len(cfg.Routes))}
	list, taken := make([]routing.Route, len(cfg.Routes)), make(map[string]int, len(cfg.Routes))
	var mistakes []error
	vouched := headers.NewVouched(cfg.VouchedHeaders)
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		list[i] = r.Row()
		c := routeCompiler{cfg: cfg, vouched: vouched, backends: names, index: i}
		if first, ok := taken[r.Name]; ok {
			c.wrong("name", fmt.Sprintf("is the name of routes[%d], too: use another one", first))
		}
		taken[r.Name] = i
		rs.of[i] = c.compile(r)
		mistakes = append(mistakes, c.mistakes...)
	}
	if rs.table, err = routing.New(list); err != nil {
		mistakes = append(mistakes, err)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	rs.inheritOrigins(cfg.Routes)
	return rs, nil
}

// A routeCompiler makes a route of a Route.
type routeCompiler struct {
	cfg      *Config
	vouched  headers.VouchedNames
	backends map[string]bool
	index    int
	mistakes []error
}

func (c *routeCompiler) wrong(key, text string) {
	c.mistakes = append(c.mistakes, &routing.Mistake{Route: c.index, Key: key, Text: text, Other: -1})
}

func (c *routeCompiler) compile(r *Route) route {
	made := route{
		name: r.Name, backend: r.Backend, sticky: strings.ToLower(r.Sticky), authority: r.Authority,
		messageBytes: r.MessageBytes, headerBytes: r.HeaderBytes, idleTimeout: r.IdleTimeout, maxAge: r.MaxAge,
	}
	if r.Timeout > 0 {
		f := report.New(report.ReasonDeadlineExceeded, "the call took longer than "+r.Timeout.String()+" ("+report.KeyRouteTimeout+")")
		f.Limit, f.Remedy = report.KeyRouteTimeout, "find the slow part, or raise "+report.KeyRouteTimeout
		made.timeout = &routeTimeout{r.Timeout, f}
	}
	c.compileRetry(r, &made)
	c.compileTargets(r, &made)
	for i, m := range r.Match.Metadata {
		if name := strings.ToLower(m.Name); !c.arrives(name) {
			c.wrong(fmt.Sprintf("match.metadata[%d].name", i), "can match no call: culvert doesn't pass on what clients send under this name; docs/reference/metadata.md lists the names that don't cross")
		}
		if !codec.ValidValue(m.Value) || strings.TrimSpace(m.Value) != m.Value {
			c.wrong(fmt.Sprintf("match.metadata[%d].value", i), "can match no call: values of metadata have printable ASCII characters, and no space at either end")
		}
	}
	for i, v := range r.SetMetadata {
		name := strings.ToLower(v.Name)
		key := fmt.Sprintf("metadata.set[%d]", i)
		if why := c.cantSet(name); why != "" {
			c.wrong(key+".name", why)
			continue
		}
		if !codec.ValidValue(v.Value) {
			c.wrong(key+".value", "can't be sent: use printable ASCII characters")
			continue
		}
		if made.set == nil {
			made.set = metadata.MD{}
		}
		made.set[name] = slices.Clip(append(made.set[name], v.Value))
		made.setBytes += codec.FieldBytes(name, v.Value)
	}
	for i, name := range r.RemoveMetadata {
		name = strings.ToLower(name)
		if !codec.ValidName(name) || strings.HasPrefix(name, "grpc-") {
			c.wrong(fmt.Sprintf("metadata.remove[%d]", i), fmt.Sprintf("%q is no metadata that a client can send: remove the entry", name))
			continue
		}
		if made.set[name] != nil {
			c.wrong(fmt.Sprintf("metadata.remove[%d]", i), fmt.Sprintf("%q is in metadata.set, too, which replaces what the client sends: remove the entry", name))
			continue
		}
		made.remove = append(made.remove, name)
	}
	if r.AllowOrigins != nil {
		c.compileOrigins(r, &made)
	}
	return made
}

// maxAttempts is the most that gRPC's clients make. gRFC A6.
const maxAttempts = 5

func (c *routeCompiler) compileRetry(r *Route, made *route) {
	retry := r.Retry
	switch {
	case retry.Attempts < 0 || retry.Attempts > maxAttempts:
		c.wrong("retry.attempts", fmt.Sprintf("is out of range: write 2 to %d, or 0 for no retries", maxAttempts))
	case retry.Attempts > 1:
		if len(retry.Codes) == 0 {
			retry.Codes = []codes.Code{codes.Unavailable}
		}
		made.retry = &retry
	case len(retry.Codes) > 0 || retry.Backoff != 0 || retry.MaxBackoff != 0:
		c.wrong("retry", "has no effect without retry.attempts: set it to 2 or more")
	}
	if slices.Contains(retry.Codes, codes.OK) {
		c.wrong("retry.codes", "has OK, which is no failure: remove it")
	}
}

func (c *routeCompiler) compileTargets(r *Route, made *route) {
	switch {
	case r.Backend == "" && len(r.Split) == 0:
		c.wrong("backend", "must be set, or split in its place: name one of the backends")
		return
	case r.Backend != "" && len(r.Split) > 0:
		c.wrong("backend", "has no effect beside split: remove one of them")
		return
	}
	if r.Backend != "" && !c.backends[r.Backend] {
		c.wrong("backend", c.unknownBackend(r.Backend))
	}
	if len(r.Split) > 0 {
		for i, t := range r.Split {
			if !c.backends[t.Backend] {
				c.wrong(fmt.Sprintf("split[%d].backend", i), c.unknownBackend(t.Backend))
			}
		}
		var err error
		if made.split, err = routing.NewSplit(r.Split); err != nil {
			c.wrong("split", err.Error())
		}
	}
	switch {
	case r.Sticky == "":
	case len(r.Split) == 0:
		c.wrong("sticky", "has no effect without split: remove one of them, or add the other")
	case !c.arrives(made.sticky):
		c.wrong("sticky", "can't select a backend: culvert doesn't pass on what clients send under this name; docs/reference/metadata.md lists the names that don't cross")
	}
}

func (c *routeCompiler) unknownBackend(name string) string {
	all := make([]string, 0, len(c.backends))
	for n := range c.backends {
		all = append(all, n)
	}
	slices.Sort(all)
	return fmt.Sprintf("names no backend: there is no %q; use one of %s", name, strings.Join(all[:min(len(all), 10)], ", "))
}

func (c *routeCompiler) compileOrigins(r *Route, made *route) {
	if len(r.Match.Metadata) > 0 || len(r.Match.Transports) > 0 {
		c.wrong("allow_origins", "can't be set on a route that matches metadata or transports, because a browser's preflight shows neither: set it on a route that matches the same without them, and this route has it, too")
		return
	}
	origins, err := gate.NewOrigins(r.AllowOrigins, c.cfg.Hosts)
	if err != nil {
		c.wrong("allow_origins", err.Error())
		return
	}
	made.origins = &origins
}

// arrives reports whether a call's metadata can have the name when its route is
// selected.
func (c *routeCompiler) arrives(name string) bool {
	if c.vouched.Strikes(name, true) {
		return false // it imitates one of these names
	}
	switch headers.OfRequest(name) {
	case headers.Pass, headers.Vouched:
		return true
	case headers.Cookie:
		return c.cfg.ForwardCookies
	case headers.Drop:
	}
	return name == forwardedUserAgent
}

// cantSet returns why a route can't set metadata of the name, or "".
func (c *routeCompiler) cantSet(name string) string {
	switch {
	case !codec.ValidName(name):
		return "is not a name of metadata: use lower-case letters, digits, - _ and ."
	case strings.HasSuffix(name, "-bin"):
		return "is binary metadata, which can't be set: use a name without -bin"
	case c.vouched.Resembles(name) || headers.OfRequest(name) == headers.Vouched:
		return "can't be set: only culvert and trusted proxies may set it; use another name"
	case headers.OfRequest(name) != headers.Pass:
		return "can't be set: it is reserved (docs/reference/metadata.md); use another name"
	}
	return ""
}

// inheritOrigins gives each route without origins of its own those of the route that
// matches the same without metadata and transports.
func (rs *routes) inheritOrigins(list []Route) {
	for i := range rs.of {
		if o := rs.of[i].origins; o != nil {
			rs.own = append(rs.own, o)
		}
	}
	if len(rs.own) == 0 {
		return
	}
	places, own := rs.table.Places(), make(map[string]*gate.Origins, len(rs.own))
	for i := range rs.of {
		if o := rs.of[i].origins; o != nil {
			own[places[i]] = o // no other route has this place and origins: they would match the same
		}
	}
	for i := range rs.of {
		if m := &list[i].Match; rs.of[i].origins == nil && len(m.Metadata)+len(m.Transports) > 0 {
			rs.of[i].origins = own[places[i]]
		}
	}
}

// count gives each route its scope. The scopes share the counts of the policies
// before. It forgets idle counts whose route neither the new policy nor the one before
// has.
func (c routeCounts) count(rs *routes, list []Route, q *quota.Limiter, before *routes) {
	named := make(map[string]bool)
	for i := range list {
		counted := c[list[i].Name]
		if counted == nil {
			counted = quota.NewRouteScope(list[i].Name, Quota{})
			c[list[i].Name] = counted
		}
		rs.of[i].scope = counted.With(list[i].Limits)
		named[list[i].Name] = true
	}
	if before != nil {
		for i := range before.of {
			named[before.of[i].name] = true
		}
	}
	for name, counted := range c {
		if !named[name] && q.Idle(counted) {
			delete(c, name)
		}
	}
}
