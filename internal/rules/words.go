package rules

// Framings of bare messages.
const (
	FramingProtobuf = "protobuf"
	FramingJSON     = "json"
	FramingSSE      = "sse"
	FramingNDJSON   = "ndjson"
	FramingOpAMP    = "opamp"
)

// Framings are the names of all framings.
var Framings = []string{FramingProtobuf, FramingJSON, FramingSSE, FramingNDJSON, FramingOpAMP}

// Policies of distributing calls over a backend's addresses.
const (
	RoundRobin   = "round_robin"
	LeastRequest = "least_request"
	PickFirst    = "pick_first"
)

// Balances are the names of all policies.
var Balances = []string{RoundRobin, LeastRequest, PickFirst}

// Transports are the names of the client protocols, sorted. Package bridge has the table of
// what they do.
var Transports = []string{"connect", "grpc", "grpc-web", "grpc-web-text", "grpc-websockets", "h2ts", "message"}
