package binding

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/bridge/descriptor"
)

// Transport is the name of the transport that carries bare messages.
const Transport = "message"

// Framings.
const (
	Protobuf = "protobuf" // binary messages of a WebSocket are those of the method
	JSON     = "json"     // messages of a WebSocket, or the body of a POST
	SSE      = "sse"      // the replies are events. https://html.spec.whatwg.org/multipage/server-sent-events.html
	NDJSON   = "ndjson"   // the replies are lines

	// OpAMP is the framing of OpAMP's agents, both on WebSockets and by polls. On a
	// WebSocket, a header comes before each message.
	// https://opentelemetry.io/docs/specs/opamp/#communication-model
	OpAMP = "opamp"
)

// framings are the names of all framings.
var framings = []string{Protobuf, JSON, SSE, NDJSON, OpAMP}

// A Route binds a path to a method, for clients that send bare messages and know nothing
// of gRPC.
type Route struct {
	Path    string // "/ws/chat", or "/ws/{service}/{method}" for all methods that Match.Methods allows
	Method  string // "package.Service/Method"; empty if the path names the method
	Framing string

	// PollMethod is for OpAMP: a unary method, which gets the message of each poll. If it
	// is empty, culvert keeps a call of Method for each agent that polls.
	PollMethod string

	Subprotocol  string   // that a WebSocket's client must offer; empty: any or none
	Query        []string // parameters of the URL that become metadata
	FirstMessage string   // the name of metadata: the client's first message is its value; empty: there is none
	HalfClose    string   // a text message that is the half-close; empty: there is none
	LastStatus   bool     // the last message before the close is the status, as JSON text

	JSON      descriptor.JSON // of the framings in JSON
	BinaryOut bool            // of JSON: the messages to the client are binary
	EventID   string          // of SSE: the field of the replies that is the id of each event; empty: events have none

	// Heartbeat is for SSE and NDJSON: after this time without anything sent, culvert sends
	// a comment or an empty line. If zero, DefaultHeartbeat is used; if negative, culvert
	// sends none.
	Heartbeat time.Duration
}

// DefaultHeartbeat is well below the time-outs of proxies in front of culvert.
const DefaultHeartbeat = 15 * time.Second

// InJSON reports whether the messages are JSON.
func (r *Route) InJSON() bool {
	return r.Framing == JSON || r.OverHTTP()
}

// OverHTTP reports whether the path takes no WebSockets.
func (r *Route) OverHTTP() bool {
	return r.Framing == SSE || r.Framing == NDJSON
}

// Methods returns Method and PollMethod, as far as they are set, without a slash before
// them.
func (r *Route) Methods() []string {
	var methods []string
	for _, name := range []string{r.Method, r.PollMethod} {
		if name != "" {
			methods = append(methods, strings.TrimPrefix(name, "/"))
		}
	}
	return methods
}

// WithQuery returns the request with the parameters of its URL that become metadata as
// fields of its header. A field that the header has counts more. lost reports that one of
// these parameters can't be read.
func (r *Route) WithQuery(in *http.Request) (out *http.Request, lost bool) {
	if len(r.Query) == 0 || in.URL.RawQuery == "" {
		return in, false
	}
	query, err := url.ParseQuery(in.URL.RawQuery)
	if err != nil && slices.ContainsFunc(strings.Split(in.URL.RawQuery, "&"), r.losesIn) {
		return in, true
	}
	out = in.WithContext(in.Context())
	out.Header = in.Header.Clone()
	for _, name := range r.Query {
		if field := http.CanonicalHeaderKey(name); len(out.Header[field]) == 0 && len(query[name]) > 0 {
			out.Header[field] = slices.Clone(query[name])
		}
	}
	return out, false
}

// losesIn reports whether net/url leaves a part of a query out that has a parameter which
// becomes metadata. A semicolon separated parameters once.
func (r *Route) losesIn(part string) bool {
	if _, err := url.ParseQuery(part); err == nil {
		return false
	}
	for one := range strings.SplitSeq(part, ";") {
		name, _, _ := strings.Cut(one, "=")
		if plain, err := url.QueryUnescape(name); err == nil && slices.Contains(r.Query, plain) {
			return true
		}
	}
	return false
}
