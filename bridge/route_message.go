package bridge

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/binding"
	"github.com/culvert-grpc/culvert/bridge/routing"
)

// The framings of a MessageRoute. Package binding says what they are.
const (
	FramingProtobuf = binding.Protobuf
	FramingJSON     = binding.JSON
	FramingSSE      = binding.SSE
	FramingNDJSON   = binding.NDJSON
	FramingOpAMP    = binding.OpAMP
)

// A MessageRoute binds a path to a method, for clients that send bare messages and know
// nothing of gRPC.
type MessageRoute = binding.Route

// A messageRoute is a MessageRoute that is ready for use.
type messageRoute struct {
	*MessageRoute
	method string // "/package.Service/Method", or "" if the path names it
	poll   string // likewise, for polls; "": they have no method of their own
}

// compileMessage makes a route of messages.
func (c *routeCompiler) compileMessage(r *Route, made *route) {
	if r.Message == nil {
		return
	}
	own := *r.Message
	own.FirstMessage = strings.ToLower(own.FirstMessage)
	made.message = &messageRoute{MessageRoute: &own}
	made.message.method, made.message.poll = own.Check(binding.Surroundings{
		Match: r.Match, Rewrite: r.Rewrite, Vouched: c.vouched, Subprotocols: []string{tunnelName, "grpc-websockets"},
	}, c.wrong)
	own.Heartbeat = cmp.Or(own.Heartbeat, binding.DefaultHeartbeat)
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
