package bridge

import (
	"net/http"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/pathservice"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A transport is one client protocol. It recognizes its requests, reads what they ask for,
// and has the client's end of a call.
type transport struct {
	name      string
	accepts   func(r *http.Request) bool
	mistakeIn func(r *http.Request, a *arrival) *report.Fault // why a request of the protocol can't be a call; nil: none is known

	// open returns the client's end of the call, never nil, and reads into the call what the
	// request asks for. It reads the header only, and sends nothing. A fault is why the call
	// is refused; the client's end tells it. nil: requests open a tunnel, and are no calls.
	open func(w http.ResponseWriter, r *http.Request, c *call) (downstream, error)
}

// carriesCalls reports whether the path of a request names a method.
func (t *transport) carriesCalls() bool { return t.open != nil }

// transports are asked in this order.
var transports []*transport

// bareTransport accepts no request by itself: a route of messages does.
var bareTransport *transport

func init() { // the entries refer to functions that refer to the table
	bareTransport = &transport{messageName, func(*http.Request) bool { return false }, messageMistake, openMessage}
	transports = []*transport{
		{tunnelName, offers(tunnelName), noMistake, nil},
		{"grpc-websockets", offers("grpc-websockets"), noMistake, openGRPCSocket},
		{"grpc-web-text", posts("application/grpc-web-text"), noMistake, webText.open},
		{"grpc-web", posts("application/grpc-web"), noMistake, web.open},
		{"grpc", posts("application/grpc"), nativeMistake, native.open},
		{connectName, isConnect, connectMistake, openConnect},
		bareTransport,
	}
}

func noMistake(*http.Request, *arrival) *report.Fault { return nil }

// callTypes are the content types that the transports accept, and typesWithoutJSON those for
// a method whose descriptors aren't known.
const (
	callTypes        = typesWithoutJSON + ", application/connect+json, application/json"
	typesWithoutJSON = "application/grpc, application/grpc-web, application/grpc-web-text, application/connect+proto, application/proto"
)

// Transports returns the names of the client protocols, as in logs.
func Transports() []string {
	names := make([]string, len(transports))
	for i, t := range transports {
		names[i] = t.name
	}
	return names
}

// transportAllowed returns nil, or why a listener doesn't accept the request's
// protocol. Inside a tunnel it judges the tunnel, too: the tunnel may have been allowed
// only when it was opened.
func (a *arrival) transportAllowed(t *transport) error {
	refused := ""
	switch {
	case a.tunnel && !a.listening.Takes(tunnelName):
		refused = tunnelName
	case !a.listening.Takes(t.name):
		refused = t.name
	default:
		return nil
	}
	return &report.Fault{
		Reason: report.ReasonNoRoute, Key: report.KeyTransports, Detail: a.peer.Transport,
		Hint:   "add " + refused + " to " + report.Named(report.KeyTransports),
		Text:   pathservice.NoCallsBy + refused + " (" + report.Named(report.KeyTransports) + ")",
		Remedy: "call another address of this server, or have " + refused + " allowed here",
	}
}

func transportFor(r *http.Request) *transport {
	for _, t := range transports {
		if t.accepts(r) {
			return t
		}
	}
	return nil
}

// posts accepts a POST of the content type, alone or with a "+subtype" and
// parameters.
func posts(contentType string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		_, ok := gate.ContentSubtype(r.Header.Get("Content-Type"), contentType)
		return ok
	}
}

// offers accepts a WebSocket upgrade that offers the subprotocol.
func offers(subprotocol string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return gate.IsUpgrade(r) && rules.HasToken(r.Header["Sec-Websocket-Protocol"], subprotocol)
	}
}
