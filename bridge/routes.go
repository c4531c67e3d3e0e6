package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/binding"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Route sends the calls that it matches to a backend. If several routes match, the
// most specific one wins, as package routing defines it. Conditions for metadata see
// what the client sends, without the changes of an Authenticator.
type Route struct {
	Name  string // unique; logs have it
	Match report.Match

	// Backend is the name of the backend. Split is set in its place to divide the
	// calls among several. If Sticky is set, it names metadata whose value selects the
	// backend of a split, so that a client stays with it.
	Backend string
	Split   []report.Target
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

	// Message makes the route one for bare messages at a path of its own. nil: the route
	// is for calls.
	Message *MessageRoute
}

// row returns the route's part that selects calls.
func (r *Route) row() routing.Route {
	row := routing.Route{Name: r.Name, Match: r.Match, Rewrite: r.Rewrite}
	if r.Message != nil {
		_, _ = row.MessageRoute(r.Message.Path, messageName) // compileMessage tells of a wrong path
	}
	return row
}

// Outgoing returns patterns of the methods that the backend can receive from the route.
// The route must have no mistake.
func (r *Route) Outgoing() []string {
	if r.Message != nil && r.Message.Method != "" {
		return binding.Methods(r.Message)
	}
	row := r.row()
	return row.Outgoing()
}

// A MetadataValue is one value of metadata.
type MetadataValue struct{ Name, Value string }

// A route is a Route that is ready for use. There may be thousands, of which most only
// name a backend. So routes share what is the same.
type route struct {
	name    string
	backend string // if split is nil
	scope   *quota.Scope
	origins *gate.Origins // nil: the policy's
	*treatment
}

// A treatment is what a route does with its calls.
type treatment struct {
	split        *routing.Split // or nil
	sticky       string
	authority    string
	set          metadata.MD
	setBytes     int
	struck       headers.VouchedNames // what clients send under names that the route sets or removes, or that imitate one
	timeout      *routeTimeout        // nil: none
	idleTimeout  time.Duration        // as in Route
	maxAge       time.Duration        // as in Route
	retry        *Retry               // nil: none
	messageBytes int
	headerBytes  int
	message      *binding.Route // nil: the route is for calls
	bounds       *path.Bounds   // of culvert.v1.Path, whose route it is; nil: it is one of the configuration
}

// edit sets and removes metadata. The values are the route's own: nobody may write to
// them.
func (r *route) edit(md metadata.MD) {
	r.struck.Strike(md, false)
	maps.Copy(md, r.set)
}

// plain is the treatment of routes that only name a backend.
var plain treatment

// A routeTimeout is the longest deadline of a route's calls.
type routeTimeout struct {
	limit time.Duration
	cause error // ends a call that takes longer
}

// routes are the routes of a policy.
type routes struct {
	table    *routing.Table
	byIndex  []route // by the table's index
	messages bool    // some are for bare messages
	own      []*gate.Origins
	asked    headers.Asked // by some route; nil: none
}

// askedFor returns the names of metadata that routes ask for. Of nil there are none.
func (rs *routes) askedFor() headers.Asked {
	if rs == nil {
		return nil
	}
	return rs.asked
}

// ask notes the metadata that a route asks for: what it matches by, what keeps a client
// with a backend, and what comes in another way than in a header.
func (rs *routes) ask(r *Route) {
	names := []string{r.Sticky}
	for _, m := range r.Match.Metadata {
		names = append(names, m.Name)
	}
	if m := r.Message; m != nil {
		names = append(append(names, m.FirstMessage), m.Query...)
		if m.Framing == FramingSSE {
			names = append(names, "last-event-id")
		}
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if rs.asked == nil {
			rs.asked = make(headers.Asked)
		}
		rs.asked[strings.ToLower(name)] = true
	}
}

// routeCounts has the counts of routes, by name. It outlives the policies.
type routeCounts map[string]*quota.Scope

// newRoutes returns the routes of a configuration, or nil if it has none. The error is a
// *report.RouteMistake, or errors.Join of several.
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
	rs := &routes{byIndex: make([]route, len(cfg.Routes))}
	list, taken := make([]routing.Route, len(cfg.Routes)), make(map[string]int, len(cfg.Routes))
	var mistakes []error
	vouched := headers.NewVouched(cfg.VouchedHeaders)
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		list[i] = r.row()
		c := routeCompiler{cfg: cfg, vouched: vouched, backends: names, index: i}
		if first, ok := taken[r.Name]; ok {
			c.wrong("name", fmt.Sprintf("is the name of routes[%d], too: use another one", first))
		}
		taken[r.Name] = i
		rs.byIndex[i] = c.compile(r)
		rs.messages = rs.messages || r.Message != nil
		rs.ask(r)
		mistakes = append(mistakes, c.mistakes...)
	}
	if rs.messages && len(mistakes) > 0 {
		return nil, errors.Join(mistakes...) // the table would tell of a wrong path in its own way
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

// inheritOrigins gives each route without origins of its own those of the route that
// matches the same without metadata and transports.
func (rs *routes) inheritOrigins(list []Route) {
	if !slices.ContainsFunc(list, func(r Route) bool { return r.AllowOrigins != nil }) {
		return
	}
	places, own := rs.table.Places(), make(map[string]*gate.Origins)
	for i := range rs.byIndex {
		if o := rs.byIndex[i].origins; o != nil {
			rs.own = append(rs.own, o)
			own[places[i]] = o // no other route has this place and origins: they would match the same
		}
	}
	for i := range rs.byIndex {
		if m := &list[i].Match; rs.byIndex[i].origins == nil && len(m.Metadata)+len(m.Transports) > 0 {
			rs.byIndex[i].origins = own[places[i]]
		}
	}
}

// count gives each route its scope. The scopes share the counts of the policies
// before. It forgets idle counts whose route neither the new policy nor the one before
// has.
func (c routeCounts) count(rs *routes, list []Route, q *quota.Limiter, before *routes) {
	named := make(map[string]bool)
	for i := range list {
		rs.byIndex[i].scope = quota.NewRouteScope(list[i].Name, list[i].Limits, c[list[i].Name])
		c[list[i].Name] = rs.byIndex[i].scope
		named[list[i].Name] = true
	}
	if before != nil {
		for i := range before.byIndex {
			named[before.byIndex[i].name] = true
		}
	}
	maps.DeleteFunc(c, func(name string, counted *quota.Scope) bool { return !named[name] && q.Idle(counted) })
}
