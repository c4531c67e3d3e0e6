package binding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Surroundings are what else the configuration has where a Route stands.
type Surroundings struct {
	Match        report.Match // of the same route
	Rewrite      string       // of the same route
	Vouched      headers.VouchedNames
	Subprotocols []string // of culvert's own protocols
}

// BearerPrefix begins the WebSocket subprotocols that carry tokens.
const BearerPrefix = "culvert.bearer."

// A checker checks a Route.
type checker struct {
	*Route
	in    Surroundings
	wrong func(key, text string)
}

// New returns the Route of m. It calls wrong for each mistake, with its key and the rest of
// a sentence that begins with the key.
func New(m report.MessageRoute, in Surroundings, wrong func(key, text string)) *Route {
	r := &Route{MessageRoute: m}
	r.FirstMessage = strings.ToLower(m.FirstMessage)
	r.check(in, wrong)
	r.Heartbeat = cmp.Or(m.Heartbeat, report.DefaultHeartbeat)
	return r
}

// check sets the methods, and calls wrong for each mistake.
func (r *Route) check(in Surroundings, wrong func(key, text string)) {
	exact, err := new(routing.Route).MessageRoute(r.Path, Transport)
	if err != nil {
		wrong("message.path", err.Error())
		return
	}
	c := checker{r, in, wrong}
	switch {
	case exact:
		r.MethodPath = c.method("message.method", r.Method)
	case r.Method != "":
		wrong("message.method", "has no effect, because message.path names the method: remove it")
	}
	if r.PollMethod != "" {
		r.PollPath = c.method("message.poll_method", r.PollMethod)
	}
	if !slices.Contains(rules.Framings, r.Framing) {
		wrong("message.framing", fmt.Sprintf("is %q: use one of %s", r.Framing, strings.Join(rules.Framings, ", ")))
	}
	c.match(exact)
	c.names()
	c.effects()
	if r.Framing == report.FramingOpAMP && !exact {
		wrong("message.path", "can't name the method: an agent's path has none")
	}
}

// method returns the method that a key names as calls have it.
func (c *checker) method(key, name string) string {
	path := "/" + strings.TrimPrefix(name, "/")
	method, ok := routing.ParseMethod(path, "")
	if !ok || method != path || strings.Contains(path, "*") { // a pattern is for many methods
		c.wrong(key, `is no method: write "package.Service/Method"`)
		return ""
	}
	return method
}

// match refuses what selects calls in another way.
func (c *checker) match(exact bool) {
	for _, excluded := range []struct {
		key string
		set bool
		why string
	}{
		{"match.path_prefix", c.in.Match.PathPrefix != "", "message.path is the path"},
		{"match.transports", len(c.in.Match.Transports) > 0, "a route with message is for " + Transport},
		{"match.methods", exact && len(c.in.Match.Methods) > 0, "message.method is the method"},
		{"match.metadata", len(c.in.Match.Metadata) > 0, "culvert selects a route with message before it reads the metadata"},
		{"rewrite.path_prefix", c.in.Rewrite != "", "message.method is the method"},
	} {
		if excluded.set {
			c.wrong(excluded.key, "can't be set beside message: "+excluded.why)
		}
	}
}

// names checks the names of metadata and of the subprotocol.
func (c *checker) names() {
	name := func(key, name string) {
		name = strings.ToLower(name)
		if !headers.Crosses(name) || strings.HasSuffix(name, "-bin") || c.in.Vouched.Strikes(name, true) {
			c.wrong(key, fmt.Sprintf("%q can't become metadata: use a name that clients may send as text", name))
		}
	}
	for i, parameter := range c.Query {
		name(fmt.Sprintf("message.query[%d]", i), parameter)
	}
	if c.FirstMessage != "" {
		name("message.first_message", c.FirstMessage)
	}
	if strings.HasPrefix(strings.ToLower(c.Subprotocol), BearerPrefix) {
		c.wrong("message.subprotocol", "can't begin with "+BearerPrefix+": such subprotocols carry tokens")
	}
	if c.Subprotocol != "" && (!gate.IsToken(strings.ToLower(c.Subprotocol)) || rules.HasToken(c.in.Subprotocols, c.Subprotocol)) {
		c.wrong("message.subprotocol", "must be a token, and no protocol of culvert's own")
	}
}

// effects refuses what has no effect for the framing.
func (c *checker) effects() {
	const needsJSON, needsSocket = "is for messages in JSON: remove it, or change message.framing", "is for WebSockets, and this framing has none: remove it"
	const needsText = "is a text message, and agents have none: remove it"
	inJSON, overHTTP, agents := c.InJSON(), c.OverHTTP(), c.Framing == report.FramingOpAMP
	for _, ineffective := range []struct {
		key  string
		is   bool
		text string
	}{
		{"message.unknown_fields", c.JSON.RejectUnknown && !inJSON, needsJSON},
		{"message.field_names", c.JSON.ProtoNames && !inJSON, needsJSON},
		{"message.enums", c.JSON.EnumNumbers && !inJSON, needsJSON},
		{"message.defaults", c.JSON.Defaults && !inJSON, needsJSON},
		{"message.json_out", c.BinaryOut && c.Framing != report.FramingJSON, "is for the framing " + report.FramingJSON},
		{"message.refresh", c.Refresh != "" && c.Framing != report.FramingJSON, "is for the framing " + report.FramingJSON},
		{"message.event_id", c.EventID != "" && c.Framing != report.FramingSSE, "is for the framing " + report.FramingSSE},
		{"message.heartbeat", c.Heartbeat != 0 && !overHTTP, "is for the framings " + report.FramingSSE + " and " + report.FramingNDJSON + ": remove it"},
		{"message.poll_method", c.PollMethod != "" && !agents, "is for the framing " + report.FramingOpAMP},
		{"message.subprotocol", c.Subprotocol != "" && overHTTP, needsSocket},
		{"message.first_message", c.FirstMessage != "" && overHTTP, needsSocket},
		{"message.half_close", c.HalfClose != "" && overHTTP, needsSocket},
		{"message.first_message", c.FirstMessage != "" && agents, needsText},
		{"message.half_close", c.HalfClose != "" && agents, needsText},
		{"message.last_message", c.LastStatus && agents, needsText},
	} {
		if ineffective.is {
			c.wrong(ineffective.key, ineffective.text)
		}
	}
}
