package bridge

import (
	"github.com/culvert-grpc/culvert/bridge/binding"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// The framings of a MessageRoute. Package report says what they are.
const (
	FramingProtobuf = report.FramingProtobuf
	FramingJSON     = report.FramingJSON
	FramingSSE      = report.FramingSSE
	FramingNDJSON   = report.FramingNDJSON
	FramingOpAMP    = report.FramingOpAMP
)

// A MessageRoute binds a path to a method, for clients that send bare messages and know
// nothing of gRPC.
type MessageRoute = report.MessageRoute

// compileMessage makes a route of messages.
func (c *routeCompiler) compileMessage(r *Route, made *route) {
	if r.Message == nil {
		return
	}
	made.message = binding.New(*r.Message, binding.Surroundings{
		Match: r.Match, Rewrite: r.Rewrite, Vouched: c.vouched, Subprotocols: []string{tunnelName, "grpc-websockets"},
	}, c.wrong)
}

// bare returns the route's part for bare messages, or nil. r may be nil.
func (r *route) bare() *binding.Route {
	if r == nil {
		return nil
	}
	return r.message
}
