package bridge

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/descriptor"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/routing"
)

// FramingProtobuf is the framing of a WebSocket whose binary messages are those of the
// method.
const FramingProtobuf = "protobuf"

// The framings in JSON.
const (
	FramingJSON   = "json"   // messages of a WebSocket, or the body of a POST
	FramingSSE    = "sse"    // the replies are events. https://html.spec.whatwg.org/multipage/server-sent-events.html
	FramingNDJSON = "ndjson" // the replies are lines
)

// framings are the names of all framings.
var framings = []string{FramingProtobuf, FramingJSON, FramingSSE, FramingNDJSON, FramingOpAMP}

// A MessageRoute binds a path to a method, for clients that send bare messages and know
// nothing of gRPC.
type MessageRoute struct {
	Path    string // "/ws/chat", or "/ws/{service}/{method}" for all methods that Match.Methods allows
	Method  string // "package.Service/Method"; empty if the path names the method
	Framing string

	// PollMethod is for FramingOpAMP: a unary method, which gets the message of each poll.
	// If it is empty, culvert keeps a call of Method for each agent that polls.
	PollMethod string

	Subprotocol  string   // that a WebSocket's client must offer; empty: any or none
	Query        []string // parameters of the URL that become metadata
	FirstMessage string   // the name of metadata: the client's first message is its value; empty: there is none
	HalfClose    string   // a text message that is the half-close; empty: there is none
	LastStatus   bool     // the last message before the close is the status, as JSON text

	JSON      descriptor.JSON // of the framings in JSON
	BinaryOut bool            // of FramingJSON: the messages to the client are binary
	EventID   string          // of FramingSSE: the field of the replies that is the id of each event; empty: events have none
}

// inJSON reports whether the messages are JSON.
func (m *MessageRoute) inJSON() bool {
	return m.Framing == FramingJSON || m.overHTTP()
}

// overHTTP reports whether the path takes no WebSockets.
func (m *MessageRoute) overHTTP() bool {
	return m.Framing == FramingSSE || m.Framing == FramingNDJSON
}

// A messageRoute is a MessageRoute that is ready for use.
type messageRoute struct {
	*MessageRoute
	method string // "/package.Service/Method", or "" if the path names it
	poll   string // likewise, for polls; "": they have no method of their own
}

// compileMessage checks a route of messages.
func (c *routeCompiler) compileMessage(r *Route, made *route) {
	m := r.Message
	if m == nil {
		return
	}
	own := *m
	m, own.FirstMessage = &own, strings.ToLower(m.FirstMessage)
	made.message = &messageRoute{MessageRoute: m}
	exact, err := new(routing.Route).MessageRoute(m.Path, messageName)
	if err != nil {
		c.wrong("message.path", err.Error())
		return
	}
	method := "/" + strings.TrimPrefix(m.Method, "/")
	switch _, ok := routing.ParseMethod(method, ""); {
	case !exact && m.Method != "":
		c.wrong("message.method", "has no effect, because message.path names the method: remove it")
	case exact && !ok:
		c.wrong("message.method", `is no method: write "package.Service/Method"`)
	case exact:
		made.message.method = method
	}
	if !slices.Contains(framings, m.Framing) {
		c.wrong("message.framing", fmt.Sprintf("is %q: use one of %s", m.Framing, strings.Join(framings, ", ")))
	}
	for _, excluded := range []struct {
		key string
		set bool
		why string
	}{
		{"match.path_prefix", r.Match.PathPrefix != "", "message.path is the path"},
		{"match.transports", len(r.Match.Transports) > 0, "a route with message is for " + messageName},
		{"match.methods", exact && len(r.Match.Methods) > 0, "message.method is the method"},
		{"match.metadata", len(r.Match.Metadata) > 0, "culvert selects a route with message before it reads the metadata"},
		{"rewrite.path_prefix", r.Rewrite != "", "message.method is the method"},
	} {
		if excluded.set {
			c.wrong(excluded.key, "can't be set beside message: "+excluded.why)
		}
	}
	c.compileMessageNames(m)
	c.compileJSON(m)
	c.compileOpAMP(made.message)
}

// compileJSON refuses what has no effect for a framing.
func (c *routeCompiler) compileJSON(m *MessageRoute) {
	const needsJSON, needsSocket = "is for messages in JSON: remove it, or change message.framing", "is for WebSockets, and this framing has none: remove it"
	for _, ineffective := range []struct {
		key  string
		is   bool
		text string
	}{
		{"message.unknown_fields", m.JSON.RejectUnknown && !m.inJSON(), needsJSON},
		{"message.field_names", m.JSON.ProtoNames && !m.inJSON(), needsJSON},
		{"message.enums", m.JSON.EnumNumbers && !m.inJSON(), needsJSON},
		{"message.defaults", m.JSON.Defaults && !m.inJSON(), needsJSON},
		{"message.json_out", m.BinaryOut && m.Framing != FramingJSON, "is for the framing " + FramingJSON},
		{"message.event_id", m.EventID != "" && m.Framing != FramingSSE, "is for the framing " + FramingSSE},
		{"message.subprotocol", m.Subprotocol != "" && m.overHTTP(), needsSocket},
		{"message.first_message", m.FirstMessage != "" && m.overHTTP(), needsSocket},
		{"message.half_close", m.HalfClose != "" && m.overHTTP(), needsSocket},
	} {
		if ineffective.is {
			c.wrong(ineffective.key, ineffective.text)
		}
	}
}

// compileMessageNames checks the names of metadata and of the subprotocol.
func (c *routeCompiler) compileMessageNames(m *MessageRoute) {
	name := func(key, name string) {
		name = strings.ToLower(name)
		if !headers.Crosses(name) || strings.HasSuffix(name, "-bin") || c.vouched.Strikes(name, true) {
			c.wrong(key, fmt.Sprintf("%q can't become metadata: use a name that clients may send as text", name))
		}
	}
	for i, parameter := range m.Query {
		name(fmt.Sprintf("message.query[%d]", i), parameter)
	}
	if m.FirstMessage != "" {
		name("message.first_message", m.FirstMessage)
	}
	if m.Subprotocol != "" && (!gate.IsToken(strings.ToLower(m.Subprotocol)) || gate.HasToken([]string{tunnelName + ", grpc-websockets"}, m.Subprotocol)) {
		c.wrong("message.subprotocol", "must be a token, and no protocol of culvert's own")
	}
}

// bind selects the route of messages for a request, if there is one, and reports whether
// there is. Requests of other protocols keep theirs: a Connect client says that it is one.
func (a *arrival) bind(r *http.Request, t *transport) bool {
	if !a.policy.routes.messages || a.tunnel || t != nil && (t.name != connectName || len(r.Header["Connect-Protocol-Version"]) > 0 || hasConnectQuery(r)) {
		return false
	}
	path, ok := routing.ParseMessagePath(r.URL.EscapedPath(), a.policy.pathPrefix)
	if !ok {
		return false
	}
	facts := a.choice.facts
	facts.Path, facts.Transport = routing.MessagePath(path), messageName
	if a.route, a.method = a.policy.routes.choose(&facts); a.route == nil {
		return false
	}
	if m := a.route.message; m.poll != "" && r.Method == http.MethodPost {
		a.method = m.poll
	}
	a.choice.facts = facts
	return true
}

// bare returns the route's part for bare messages, or nil. r may be nil.
func (r *route) bare() *messageRoute {
	if r == nil {
		return nil
	}
	return r.message
}
