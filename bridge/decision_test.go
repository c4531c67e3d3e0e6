package bridge

import (
	"cmp"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// rulesOf returns the policy of a configuration without a Server.
func rulesOf(t *testing.T, cfg Config) *policy {
	t.Helper()
	cfg.Backend, cfg.Limits = nowhere, Limits{MessageBytes: 100, HeaderBytes: 100}
	for i := range cfg.Routes {
		cfg.Routes[i].Backend = DefaultBackend
	}
	p, err := newRules(&cfg)
	if err == nil {
		p.methods, err = methodCounts{}.limits(cfg.MethodLimits, nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pageOf returns the facts of a page that calls over TLS.
func pageOf(origin string) gate.Asker {
	return gate.Asker{Origins: []string{origin}, Host: "a.example.com", Secure: true}
}

const (
	listedPage = "https://listed.example"
	routesPage = "https://route.example"
)

// TestDecisions: each case has facts, and what two policies decide by them: one without
// routes, and one with.
func TestDecisions(t *testing.T) {
	limits := []MethodQuota{{Pattern: "a.Less/*", MessageBytes: 50}, {Pattern: "a.More/*", MessageBytes: 500, HeaderBytes: 90}}
	unrouted := rulesOf(t, Config{AllowOrigins: []string{listedPage}, MethodLimits: limits, PathPrefix: "/api"})
	routed := rulesOf(t, Config{
		AllowOrigins: []string{listedPage}, MethodLimits: limits, PathPrefix: "/api",
		Routes: []Route{
			{Name: "plain", Match: report.Match{Methods: []string{"a.*/*"}}},
			{Name: "canary", Match: report.Match{Methods: []string{"a.*/*"}, Metadata: []report.Condition{{Name: "x-canary"}}}, MessageBytes: 80, HeaderBytes: 70},
			{Name: "renamed", Match: report.Match{PathPrefix: "/old"}, Rewrite: "/", AllowOrigins: []string{routesPage}, MessageBytes: 200},
			{Name: "inside", Match: report.Match{Methods: []string{"a.*/*"}, Transports: []string{tunnelName}}},
			{Name: "small", Match: report.Match{Methods: []string{"a.*/*"}, Listeners: []string{"small"}}, MessageBytes: 40},
			{Name: "host", Match: report.Match{Hosts: []string{"2001:db8::1"}}},
			{Name: "chat", Message: &MessageRoute{Path: "/ws/chat", Method: "a.Chat/Talk", Framing: FramingProtobuf}},
			{Name: "fleet", Message: &MessageRoute{Path: "/opamp", Method: "a.Fleet/Stream", PollMethod: "a.Fleet/Poll", Framing: FramingOpAMP}},
			{Name: "named", Message: &MessageRoute{Path: "/ws/{service}/{method}", Framing: FramingProtobuf}},
		},
	})
	canary, empty := metadata.MD{"x-canary": {"1"}}, metadata.MD{}
	type want struct {
		route, method, limit string
		messages, headers    report.SizeLimit // zero: the general ones
		denied               bool
	}
	for name, c := range map[string]struct {
		policy   *policy
		listener Listener
		facts    facts
		want     want
	}{
		"no routes":              {unrouted, Listener{}, facts{path: "/api/a.B/C", transport: "grpc"}, want{method: "/a.B/C"}},
		"metadata, no routes":    {unrouted, Listener{}, facts{path: "/api/a.B/C", transport: "grpc", metadata: canary}, want{method: "/a.B/C"}},
		"no prefix, no routes":   {unrouted, Listener{}, facts{path: "/a.B/C", transport: "grpc"}, want{}},
		"no method, no routes":   {unrouted, Listener{}, facts{path: "/api/page"}, want{}},
		"unlisted, no routes":    {unrouted, Listener{}, facts{path: "/api/a.B/C", asker: pageOf(routesPage)}, want{method: "/a.B/C", denied: true}},
		"listed, no routes":      {unrouted, Listener{}, facts{path: "/api/a.B/C", asker: pageOf(listedPage)}, want{method: "/a.B/C"}},
		"a tunnel, no routes":    {unrouted, Listener{}, facts{path: "/api/a.Less/C", transport: tunnelName, opensTunnel: true, asker: pageOf(listedPage)}, want{}},
		"its page, no routes":    {unrouted, Listener{}, facts{transport: tunnelName, opensTunnel: true, asker: pageOf(routesPage)}, want{denied: true}},
		"a method with less":     {unrouted, Listener{}, facts{path: "/api/a.Less/C"}, want{method: "/a.Less/C", limit: "a.Less/*", messages: size(50, report.KeyMethodMessageBytes)}},
		"a method with more":     {unrouted, Listener{}, facts{path: "/api/a.More/C"}, want{method: "/a.More/C", limit: "a.More/*", messages: size(500, report.KeyMethodMessageBytes), headers: size(90, report.KeyMethodHeaderBytes)}},
		"less at a listener":     {unrouted, Listener{MessageBytes: 60}, facts{path: "/api/a.More/C"}, want{method: "/a.More/C", limit: "a.More/*", messages: size(60, report.KeyListenerMessageBytes), headers: size(90, report.KeyMethodHeaderBytes)}},
		"on arrival":             {routed, Listener{}, facts{path: "/api/a.B/C", transport: "grpc"}, want{route: "plain", method: "/a.B/C"}},
		"for good":               {routed, Listener{}, facts{path: "/api/a.B/C", transport: "grpc", metadata: empty}, want{route: "plain", method: "/a.B/C"}},
		"by metadata":            {routed, Listener{}, facts{path: "/api/a.B/C", transport: "grpc", metadata: canary}, want{route: "canary", method: "/a.B/C", messages: size(80, report.KeyRouteMessageBytes), headers: size(70, report.KeyRouteHeaderBytes)}},
		"by transport":           {routed, Listener{}, facts{path: "/api/a.B/C", transport: tunnelName}, want{route: "inside", method: "/a.B/C"}},
		"by host":                {routed, Listener{}, facts{host: "[2001:DB8::1]:443", path: "/api/b.B/C", transport: "grpc"}, want{route: "host", method: "/b.B/C"}},
		"the route has less":     {routed, Listener{Name: "small", MessageBytes: 60, HeaderBytes: 60}, facts{path: "/api/a.Less/C", transport: "grpc"}, want{route: "small", method: "/a.Less/C", limit: "a.Less/*", messages: size(40, report.KeyRouteMessageBytes), headers: size(60, report.KeyListenerHeaderBytes)}},
		"the listener has less":  {routed, Listener{Name: "small", MessageBytes: 30}, facts{path: "/api/a.B/C", transport: "grpc"}, want{route: "small", method: "/a.B/C", messages: size(30, report.KeyListenerMessageBytes)}},
		"the method has less":    {routed, Listener{}, facts{path: "/api/old/a.Less/C", transport: "grpc", asker: pageOf(routesPage)}, want{route: "renamed", method: "/a.Less/C", limit: "a.Less/*", messages: size(50, report.KeyMethodMessageBytes)}},
		"the route's page":       {routed, Listener{}, facts{path: "/api/old/a.B/C", transport: "grpc", asker: pageOf(routesPage)}, want{route: "renamed", method: "/a.B/C"}},
		"not the route's page":   {routed, Listener{}, facts{path: "/api/old/a.B/C", transport: "grpc", asker: pageOf(listedPage)}, want{route: "renamed", method: "/a.B/C", denied: true}},
		"another route's page":   {routed, Listener{}, facts{path: "/api/a.B/C", transport: "grpc", asker: pageOf(routesPage)}, want{route: "plain", method: "/a.B/C", denied: true}},
		"a preflight":            {routed, Listener{}, facts{path: "/api/old/a.B/C", bare: true, asker: pageOf(routesPage)}, want{route: "renamed", method: "/a.B/C"}},
		"a tunnel":               {routed, Listener{}, facts{path: "/api/a.B/C", transport: tunnelName, opensTunnel: true, asker: pageOf(routesPage)}, want{}},
		"a foreign page's":       {routed, Listener{}, facts{transport: tunnelName, opensTunnel: true, asker: pageOf("https://foreign.example")}, want{denied: true}},
		"no route":               {routed, Listener{}, facts{path: "/api/x/a.Less/C", transport: "grpc", asker: pageOf(listedPage)}, want{method: "/a.Less/C"}},
		"no route for good":      {routed, Listener{}, facts{path: "/api/x/a.Less/C", transport: "grpc", metadata: canary}, want{method: "/a.Less/C"}},
		"no method":              {routed, Listener{}, facts{path: "/api/page", transport: "grpc"}, want{}},
		"no prefix":              {routed, Listener{}, facts{path: "/a.B/C", transport: "grpc"}, want{}},
		"bare":                   {routed, Listener{}, facts{path: "/api/ws/chat", bare: true}, want{route: "chat", method: "/a.Chat/Talk"}},
		"bare, with metadata":    {routed, Listener{}, facts{path: "/api/ws/chat", bare: true, metadata: canary}, want{route: "chat", method: "/a.Chat/Talk"}},
		"bare, names the method": {routed, Listener{}, facts{path: "/api/ws/a.Less/C", bare: true}, want{route: "named", method: "/a.Less/C", limit: "a.Less/*", messages: size(50, report.KeyMethodMessageBytes)}},
		"bare, names no method":  {routed, Listener{}, facts{path: "/api/ws/a;b/C", bare: true}, want{}},
		"bare by name alone":     {routed, Listener{}, facts{path: "/api/ws/chat", transport: messageName}, want{route: "chat", method: "/a.Chat/Talk"}},
		"claimed by another":     {routed, Listener{}, facts{path: "/api/ws/chat", transport: "grpc"}, want{method: "/ws/chat"}},
		"a session":              {routed, Listener{}, facts{path: "/api/opamp", bare: true}, want{route: "fleet", method: "/a.Fleet/Stream"}},
		"a poll":                 {routed, Listener{}, facts{path: "/api/opamp", bare: true, post: true}, want{route: "fleet", method: "/a.Fleet/Poll"}},
		"a poll, with metadata":  {routed, Listener{}, facts{path: "/api/opamp", bare: true, post: true, metadata: canary}, want{route: "fleet", method: "/a.Fleet/Poll"}},
		"perhaps bare":           {routed, Listener{}, facts{path: "/api/a.B/C", transport: connectName, bare: true, post: true}, want{route: "plain", method: "/a.B/C"}},
	} {
		f := c.facts
		f.caller = &caller{listening: edge.NewListening(c.listener)}
		d := c.policy.decide(&f)
		got := want{method: d.Method, messages: d.messages, headers: d.headers, denied: !d.origin.Allowed}
		if d.route != nil {
			got.route = d.route.name
		}
		if d.limit != nil {
			got.limit = d.limit.patterns[0]
		}
		if !f.opensTunnel {
			c.want.messages, c.want.headers = cmp.Or(c.want.messages, size(100, report.KeyMessageBytes)), cmp.Or(c.want.headers, size(100, report.KeyHeaderBytes))
		}
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		if want := c.policy == unrouted || f.opensTunnel || f.metadata != nil; d.final != want {
			t.Errorf("%s: final %v, want %v", name, d.final, want)
		}
		if again := c.policy.decide(&f); again != d {
			t.Errorf("%s: decided again, got %+v, want %+v", name, again, d)
		}
	}
}

func size(bytes int, key string) report.SizeLimit { return report.SizeLimit{Bytes: bytes, Key: key} }

// TestDecisionIsFinalIfNoRouteAsksForMetadata: a call without such routes isn't decided
// twice.
func TestDecisionIsFinalIfNoRouteAsksForMetadata(t *testing.T) {
	p := rulesOf(t, Config{Routes: []Route{{Name: "a"}}})
	f := facts{caller: &caller{listening: edge.NewListening(Listener{})}, path: "/a.B/C", transport: "grpc"}
	if d := p.decide(&f); !d.final || d.route == nil {
		t.Errorf("got %+v, want a final decision", d)
	}
}

// TestDecidingCostsNoAllocation: with routes that match metadata, too.
func TestDecidingCostsNoAllocation(t *testing.T) {
	p := rulesOf(t, Config{Routes: []Route{{Name: "a", Match: report.Match{Metadata: []report.Condition{{Name: "x-a"}}}}}})
	f := facts{caller: &caller{listening: edge.NewListening(Listener{})}, host: "a.example.com", path: "/a.B/C", transport: "grpc", metadata: metadata.MD{"x-a": {"1"}}}
	if n := testing.AllocsPerRun(100, func() { p.decide(&f) }); n != 0 {
		t.Errorf("a decision allocates %v times", n)
	}
}
