package report

import (
	"time"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// The framings of a MessageRoute.
const (
	FramingProtobuf = rules.FramingProtobuf // binary messages of a WebSocket are those of the method
	FramingJSON     = rules.FramingJSON     // messages of a WebSocket, or the body of a POST
	FramingSSE      = rules.FramingSSE      // the replies are events. https://html.spec.whatwg.org/multipage/server-sent-events.html
	FramingNDJSON   = rules.FramingNDJSON   // the replies are lines

	// FramingOpAMP is the framing of OpAMP's agents, both on WebSockets and by polls. On a
	// WebSocket, a header comes before each message.
	// https://opentelemetry.io/docs/specs/opamp/#communication-model
	FramingOpAMP = rules.FramingOpAMP
)

// A MessageRoute binds a path to a method, for clients that send bare messages and know nothing
// of gRPC.
type MessageRoute struct {
	Path    string // "/ws/chat", or "/ws/{service}/{method}" for all methods that Match.Methods allows
	Method  string // "package.Service/Method"; empty if the path names the method
	Framing string

	// PollMethod is for OpAMP: a unary method, which gets the message of each poll. If it
	// is empty, culvert keeps a call of Method for each agent that polls.
	PollMethod string

	Subprotocol  string   // that a WebSocket's client must offer; empty: any or none
	Query        []string // parameters of the URL that become metadata
	FirstMessage string   // the name of metadata: the client's first message is its value; empty: there is none
	Refresh      string   // of JSON, on WebSockets: an object with this one member, a string, isn't a message: it has the authorization that renews the caller's credential; empty: there is none
	HalfClose    string   // a text message that is the half-close; empty: there is none
	LastStatus   bool     // the last message before the close is the status, as JSON text

	JSON      JSON   // of the framings in JSON
	BinaryOut bool   // of JSON: the messages to the client are binary
	EventID   string // of SSE: the field of the replies that is the id of each event; empty: events have none

	// Heartbeat is for SSE and NDJSON: after this time without anything sent, culvert sends
	// a comment or an empty line. If zero, DefaultHeartbeat is used; if negative, culvert
	// sends none.
	Heartbeat time.Duration
}

// DefaultHeartbeat is well below the time-outs of proxies in front of culvert.
const DefaultHeartbeat = 15 * time.Second

// JSON says how messages are converted. The zero value is canonical proto3 JSON that ignores unknown
// fields, so that clients and servers may differ in their versions.
// https://protobuf.dev/programming-guides/json/
type JSON struct {
	RejectUnknown bool // fields and names of enum values, in JSON that is read

	ProtoNames  bool // the fields' names as the definition has them, in place of lowerCamelCase
	EnumNumbers bool // numbers in place of names
	Defaults    bool // fields with their default values, which are left out otherwise
}
