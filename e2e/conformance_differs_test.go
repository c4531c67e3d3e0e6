package e2e

// conformanceFeatures are what culvert and a server of the suite support together.
var conformanceFeatures = []string{
	"versions: [HTTP_VERSION_1, HTTP_VERSION_2]",
	"compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]",
	"supportsTlsClientCerts: true",
	"supportsHalfDuplexBidiOverHttp1: true",
}

// conformanceOddServers are what the suite's servers are to offer: culvert speaks
// gRPC to them.
var conformanceOddServers = []string{
	"versions: [HTTP_VERSION_2]",
	"protocols: [PROTOCOL_GRPC]",
	"compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]",
}

// A conformanceDiffers lists cases that don't pass, and why.
type conformanceDiffers struct {
	cases string // a pattern: * is one part of a name, ** are any
	why   string
	says  string // the beginning of the suite's complaint
	racy  bool   // passes at times
}

func (d conformanceDiffers) flag() string {
	if d.racy {
		return "--known-flaky"
	}
	return "--known-failing"
}

// The suite compares the details of a status. A status that culvert makes has one,
// the ErrorInfo that names its reason. The suite says so only when the code is right.
const (
	oneDetail    = "actual error contain 1 details; expecting 0"
	whyOneDetail = "the status is culvert's own, so it has an ErrorInfo: "
)

// conformanceDeadlines: culvert and the server both watch the deadline. Either may
// be the first to end the call.
var conformanceDeadlines = conformanceDiffers{"Timeouts/**", whyOneDetail + "its deadline may be the first to end", oneDetail, true}

// conformanceRequests are the cases of clients that break the protocol, in front of
// any server.
var conformanceRequests = []conformanceDiffers{
	conformanceDeadlines,
	{"**/client-stream/incomplete-message", whyOneDetail + "culvert reads whole messages", oneDetail, false},
	{"**/client-stream/incomplete-message-prefix", whyOneDetail + "culvert reads whole messages", oneDetail, false},
	{"**/unexpected-compressed-message", whyOneDetail + "culvert knows the codings", oneDetail, false},
	{"**/unexpected-compression", whyOneDetail + "culvert knows the codings", oneDetail, false},
}

// An unknown method is 404 in Connect. culvert doesn't know the methods, so it
// translates the backend's code.
const (
	unknownMethod    = "actual HTTP status code does not match: wanted 404; got 501"
	whyUnknownMethod = "culvert leaves it to the backend which methods exist: UNIMPLEMENTED is 501"
)

// grpcCardinality are grpc-go's words. The suite's own list of known failures has these
// cases, too.
const (
	grpcCardinality = "actual error {code: 13 (internal), message: \"cardinality violation: "
	whyCardinality  = "grpc-go reports INTERNAL where gRPC's list of codes has UNIMPLEMENTED"
)

var conformanceOfGRPCServer = []conformanceDiffers{
	{"**/unary/multiple-requests", whyCardinality, grpcCardinality, false},
	{"**/unary/no-request", whyCardinality, grpcCardinality, false},
	{"**/server-stream/multiple-requests", whyCardinality, grpcCardinality, false},
	{"**/server-stream/no-request", whyCardinality, grpcCardinality, false},
	{"Connect Unexpected Requests/**/unexpected-uri", whyUnknownMethod, unknownMethod, false},
}

var conformanceOfConnectServer = []conformanceDiffers{
	{"gRPC Unexpected Requests/**/unexpected-uri", whyOneDetail + "connect-go answers 404, which is no gRPC", oneDetail, false},
	{"gRPC-Web Unexpected Requests/**/unexpected-uri", whyOneDetail + "connect-go answers 404, which is no gRPC", oneDetail, false},
	{"Connect Unexpected Requests/**/unexpected-uri", whyUnknownMethod, unknownMethod, false},
}

// conformanceAnswers are the cases of servers that break the protocol. culvert can
// pass on none of these answers as it is.
var conformanceAnswers = []conformanceDiffers{
	conformanceDeadlines,
	{"HTTP to RPC Code Mapping/**", whyOneDetail + "the answer is no gRPC", oneDetail, false},
	{"Unexpected Responses/**/nonexistent-http-status-code", whyOneDetail + "the answer is no gRPC", oneDetail, false},
	{"Unexpected Responses/**/unmapped-http-status-code", whyOneDetail + "the answer is no gRPC", oneDetail, false},
	{"gRPC Unexpected Responses/**/unexpected-content-type", whyOneDetail + "the answer is no gRPC", oneDetail, false},
	{"gRPC Unexpected Responses/**/missing-status", whyOneDetail + "the answer ends without a status", oneDetail, false},
	{"gRPC Unexpected Responses/**/no-terminal-status", whyOneDetail + "the answer ends without a status", oneDetail, false},
	{"gRPC Unexpected Responses/**/ignore-header-if-body-present", whyOneDetail + "the answer ends without a status", oneDetail, false},
	{"gRPC Unexpected Responses/**/server-stream/incomplete-message", whyOneDetail + "the answer ends inside a message", oneDetail, false},
	{"gRPC Unexpected Responses/**/server-stream/incomplete-message-prefix", whyOneDetail + "the answer ends inside a message", oneDetail, false},
	{"gRPC Unexpected Responses/**/unexpected-compressed-message", whyOneDetail + "culvert knows the codings", oneDetail, false},
	{"gRPC Unexpected Responses/**/unexpected-compression", whyOneDetail + "culvert knows the codings", oneDetail, false},
}

var conformanceOfGRPCClient = []conformanceDiffers{
	{"**/unary/multiple-responses", whyCardinality, grpcCardinality, false},
	{"**/unary/ok-but-no-response", whyCardinality, grpcCardinality, false},
	{"**/client-stream/multiple-responses", whyCardinality, grpcCardinality, false},
	{"**/client-stream/ok-but-no-response", whyCardinality, grpcCardinality, false},
}

var conformanceOfConnectClient = []conformanceDiffers{
	{
		"gRPC Unexpected Responses/**/unexpected-codec", "culvert doesn't compare the codec of the answer with the request's",
		"actual error {code: 3 (invalid_argument), message: \"unmarshal message: ", false,
	},
}

// conformanceConnectAnswers are more of these cases for Connect's unary calls: culvert
// has to read the only message.
var conformanceConnectAnswers = []conformanceDiffers{
	{"gRPC Unexpected Responses/**/unary/multiple-responses", whyOneDetail + "Connect has room for one message", oneDetail, false},
	{"gRPC Unexpected Responses/**/unary/ok-but-no-response", whyOneDetail + "Connect needs one message", oneDetail, false},
}
