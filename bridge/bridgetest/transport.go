package bridgetest

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
)

// A need is a scenario's requirement for a transport, or for the transport's
// client.
type need uint

const (
	// fullDuplex: request messages leave one by one while replies are read.
	fullDuplex need = 1 << iota
	// manyRequests: a request may have other than one message.
	manyRequests
	// rawFrames: the client writes the 5-byte frames itself, so it can write wrong
	// ones.
	rawFrames
	// halfMessages: the client can stop inside a message.
	halfMessages
	// answerHeader: the client gets the metadata before the messages of the answer.
	answerHeader
	// answerTrailer: and the metadata after them.
	answerTrailer
	// contentType: the request has one.
	contentType
	// codings: the client can compress messages, and says how.
	codings
	// exactSizes: the client's message has as many bytes as the backend's.
	exactSizes
	// manyTypes: methods may have any messages.
	manyTypes
	// anyMethod: the client names the method.
	anyMethod
	// leavesOpen: the scenario makes no half-close, and needs of a status its code and its
	// message. Every transport can carry that.
	leavesOpen
	// rawHeaders: the client writes header fields unchanged.
	rawHeaders
	// nativeReplies: the client reads native gRPC by hand: compressed replies,
	// codes beyond 16.
	nativeReplies
	// oneConnection: all calls of a client share one connection.
	oneConnection
	// plaintext: the client's connection is TCP that a relay can carry.
	plaintext
	// streamedReplies: the answer may have other than one message, and header and messages
	// arrive before the call's end.
	streamedReplies
	// detailBytes: the client gets the bytes of a status's details.
	detailBytes
	// processor: the scenario keeps a processor busy. Every transport has one.
	processor
	// parted: of a row of cases, each transport has its part (trial.part). Every transport
	// has one.
	parted
)

// The reasons why a transport can't carry a need.
const (
	fetchHasNoStream = "a browser's fetch and XHR send the request as one body with a length"
	fetchSendsOne    = "the published clients send exactly one message in such a body"
	grpcGoFrames     = "grpc-go writes the frames itself"
	grpcGoHeaders    = "grpc-go refuses or encodes such header fields itself"
	grpcGoReplies    = "grpc-go expands replies before anyone sees them"
	browserReplies   = "browser dialects never get compressed messages or codes beyond 16"
	connPerCall      = "a call has a connection of its own"
	bareMessages     = "a unary call's body is the message alone, without a frame"
	oneMessage       = "a unary call has one message each way"
	replyAtTheEnd    = "a unary answer has one message, and its header has the status"
	typeAndValue     = "JSON has a detail's type and value, not the status around them"
	frameless        = "a WebSocket message is the message alone, without a frame"
	noPlace          = "bare messages have no place for metadata of the answer, content types and codings"
	oneRequest       = "the request is one message in JSON"
	onePoll          = "a poll is a message of one type for the method of its path, and has no place for metadata of the answer"
	agentsLeaveOpen  = "an agent has no half-close, and gets no details of a status"
	uidBefore        = "an agent's messages begin with its instance_uid"
	noTrailers       = "lines and events have no place for trailers"
	jsonIsLarger     = "bytes are larger in JSON, and the limit is for both"
	oneType          = "the descriptors of this suite have one type of messages"
	insideTLS        = "the relay would have to take part in TLS's timing for nothing"
)

// A transport is one of the protocols of clients.
type transport struct {
	name  string
	label string // its name in culvert's log
	tls   bool
	http2 bool // its calls are streams of HTTP/2
	// standard reports that net/http serves its HTTP/2.
	standard bool
	row      int  // in the table
	whole    bool // it runs the whole of scenarios that are parted
	// browser reports that its clients know only the codes 0 to 16.
	browser bool
	cannot  map[need]string   // with the reasons
	lacking map[string]string // the scenarios that it can't carry for another reason than a need
	framing *framing          // of bare messages; nil: a protocol of calls
	only    need              // scenarios without it aren't carried, for the reason beside it
	why     string
	dial    opener
}

// An opener starts a client. tc is for connections over TLS.
type opener func(d *dialer, tc *tls.Config) (client, error)

// A way makes a client's connections to culvert: direct, or dialTunnel, which makes them
// through WebSockets.
type way func(ctx context.Context, d *dialer) (net.Conn, error)

func direct(ctx context.Context, d *dialer) (net.Conn, error) { return d.dial(ctx, "", "") }

func overGRPC(w way) opener {
	return func(d *dialer, tc *tls.Config) (client, error) { return newGRPCClient(d, w, tc) }
}

func overGRPCWebSockets(d *dialer, tc *tls.Config) (client, error) {
	d.tls = tc
	return &websocketClient{sockets{d: d}}, nil
}

func overWebSockets(f *framing) opener {
	return func(d *dialer, _ *tls.Config) (client, error) {
		return &messageClient{sockets: sockets{d: d}, framing: f}, nil
	}
}

// A client over HTTP sends the request as one body with a length if whole, as fetch does.
const whole, streamed = true, false

func overHTTP1(dl dialect, whole bool) opener {
	return func(d *dialer, _ *tls.Config) (client, error) {
		return &http1Client{d: d, dialect: dl, whole: whole}, nil
	}
}

func overHTTP2(w way, dl dialect, whole bool) opener {
	return func(d *dialer, _ *tls.Config) (client, error) { return newHTTP2Client(d, w, dl, whole), nil }
}

var grpcGo = map[need]string{rawFrames: grpcGoFrames, halfMessages: grpcGoFrames, rawHeaders: grpcGoHeaders, nativeReplies: grpcGoReplies}

var connectUnary = map[need]string{fullDuplex: oneMessage, manyRequests: oneMessage, streamedReplies: replyAtTheEnd, rawFrames: bareMessages, halfMessages: bareMessages, detailBytes: typeAndValue}

// overMessages is the row of a framing of bare messages, which can't carry more than others.
func overMessages(f *framing, more map[need]string) transport {
	cannot := map[need]string{
		rawFrames: frameless, nativeReplies: noPlace, oneConnection: connPerCall, detailBytes: typeAndValue,
		answerHeader: noPlace, answerTrailer: noPlace, contentType: noPlace, codings: noPlace,
	}
	maps.Copy(cannot, more)
	return transport{name: "message " + f.name, label: "message", cannot: cannot, framing: f, dial: overWebSockets(f)}
}

// plainReplies is what one request in JSON with replies in lines or events can't carry.
var plainReplies = map[need]string{
	fullDuplex: oneRequest, manyRequests: oneRequest, rawFrames: oneRequest, nativeReplies: oneRequest,
	oneConnection: connPerCall, contentType: oneRequest, answerTrailer: noTrailers, detailBytes: typeAndValue, exactSizes: jsonIsLarger, manyTypes: oneType,
}

var polls = map[need]string{
	fullDuplex: oneMessage, manyRequests: oneMessage, streamedReplies: replyAtTheEnd, rawFrames: bareMessages, halfMessages: bareMessages,
	nativeReplies: onePoll, contentType: onePoll, answerHeader: onePoll, answerTrailer: onePoll, oneConnection: connPerCall,
	detailBytes: typeAndValue, exactSizes: uidBefore, manyTypes: onePoll, anyMethod: onePoll,
}

var fetch = map[need]string{fullDuplex: fetchHasNoStream, manyRequests: fetchSendsOne, nativeReplies: browserReplies}

func with(cannot map[need]string, n need, why string) map[need]string {
	all := maps.Clone(cannot)
	all[n] = why
	return all
}

// transports is the table: every scenario runs over every row.
var transports = []transport{
	{
		name: "grpc h2c", label: "grpc", http2: true, cannot: grpcGo,
		dial: overGRPC(direct),
	},
	{
		name: "grpc tls", label: "grpc", http2: true, tls: true,
		cannot: with(grpcGo, plaintext, insideTLS), dial: overGRPC(direct),
	},
	{
		name: "grpc h2c by hand", label: "grpc", http2: true,
		dial: overHTTP2(direct, dialectGRPC, streamed),
	},
	{
		name: "grpc-web http1 fetch", label: "grpc-web", browser: true,
		cannot: with(fetch, oneConnection, connPerCall), dial: overHTTP1(dialectWeb, whole),
	},
	{
		name: "grpc-web http1 chunked", label: "grpc-web", browser: true,
		cannot: map[need]string{oneConnection: connPerCall, nativeReplies: browserReplies}, dial: overHTTP1(dialectWeb, streamed),
	},
	{
		name: "grpc-web h2c fetch", label: "grpc-web", http2: true, browser: true,
		cannot: fetch, dial: overHTTP2(direct, dialectWeb, whole),
	},
	{
		name: "grpc-web h2c", label: "grpc-web", http2: true, browser: true,
		cannot: map[need]string{nativeReplies: browserReplies}, dial: overHTTP2(direct, dialectWeb, streamed),
	},
	{
		name: "grpc-web-text http1 xhr", label: "grpc-web-text", browser: true,
		cannot: with(fetch, oneConnection, connPerCall), dial: overHTTP1(dialectText, whole),
	},
	{
		name: "grpc-web-text http1 chunked", label: "grpc-web-text", browser: true,
		cannot: map[need]string{oneConnection: connPerCall, nativeReplies: browserReplies}, dial: overHTTP1(dialectText, streamed),
	},
	{
		name: "grpc-websockets", label: "grpc-websockets", browser: true,
		cannot: map[need]string{oneConnection: connPerCall, nativeReplies: browserReplies}, dial: overGRPCWebSockets,
	},
	{
		name: "grpc-websockets tls", label: "grpc-websockets", browser: true, tls: true,
		cannot: map[need]string{oneConnection: connPerCall, nativeReplies: browserReplies, plaintext: insideTLS}, dial: overGRPCWebSockets,
	},
	{
		name: "connect http1", label: "connect", browser: true,
		cannot: map[need]string{oneConnection: connPerCall, detailBytes: typeAndValue}, dial: overHTTP1(dialectConnect, streamed),
	},
	{
		name: "connect h2c", label: "connect", http2: true, browser: true, cannot: map[need]string{detailBytes: typeAndValue},
		dial: overHTTP2(direct, dialectConnect, streamed),
	},
	{
		name: "connect unary http1", label: "connect", browser: true,
		cannot: with(connectUnary, oneConnection, connPerCall), dial: overHTTP1(dialectUnary, whole),
	},
	{
		name: "connect unary h2c", label: "connect", http2: true, browser: true, cannot: connectUnary,
		dial: overHTTP2(direct, dialectUnary, whole),
	},
	{
		name: "h2ts connect", label: "h2ts+connect", http2: true, browser: true, cannot: map[need]string{detailBytes: typeAndValue},
		dial: overHTTP2(dialTunnel, dialectConnect, streamed),
	},
	{
		name: "h2ts grpc", label: "h2ts+grpc", http2: true, cannot: grpcGo,
		dial: overGRPC(dialTunnel),
	},
	{
		name: "h2ts grpc-web", label: "h2ts+grpc-web", http2: true, browser: true,
		cannot: map[need]string{nativeReplies: browserReplies}, dial: overHTTP2(dialTunnel, dialectWeb, streamed),
	},
	overMessages(protobufFraming, nil),
	overMessages(jsonFraming, map[need]string{exactSizes: jsonIsLarger, manyTypes: oneType}),
	{
		name: "message ndjson http1", label: "message", framing: lineFraming, cannot: plainReplies,
		dial: overHTTP1(dialectLines, whole),
	},
	{
		name: "message json http1", label: "message", browser: true, framing: postFraming, cannot: with(plainReplies, streamedReplies, replyAtTheEnd),
		dial: overHTTP1(dialectPost, whole),
	},
	{
		name: "message opamp", label: "message", framing: agentFraming, only: leavesOpen, why: agentsLeaveOpen,
		cannot: map[need]string{rawFrames: frameless, answerHeader: noPlace, answerTrailer: noPlace}, dial: overWebSockets(agentFraming),
	},
	{
		name: "message opamp http1", label: "message", framing: pollFraming, cannot: polls,
		dial: overHTTP1(dialectPoll, whole),
	},
	{
		name: "message sse http1", label: "message", framing: eventFraming, cannot: plainReplies,
		dial: overHTTP1(dialectEvents, whole),
	},
}
