package rules

// flags are those of the program that set what the bridge's texts tell to set, by the keys
// of the file.
var flags = map[string]string{"allow_origins": "--allow-origin", "methods.allow": "--allow-method", "backend.tls": "--backend-tls"}

// InFile says the settings in the bridge's texts as the users of the program do: by the keys
// of the file, and by flags where one is to be set. It is a report.Words.
func InFile(key, value string, set bool) string {
	flag := flags[key]
	switch {
	case !set || flag == "":
		return key
	case value != "":
		return flag + " " + value
	case key == "allow_origins":
		return flag + " (" + key + ")"
	}
	return flag
}

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
