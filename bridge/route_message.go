package bridge

import (
	"cmp"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/binding"
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

// bare returns the route's part for bare messages, or nil. r may be nil.
func (r *route) bare() *messageRoute {
	if r == nil {
		return nil
	}
	return r.message
}
