package report

import (
	"slices"

	"google.golang.org/grpc/codes"
)

// A Reason is why culvert itself ended a call: the reason of the ErrorInfo in the
// status.
type Reason string

// The reasons, each a row of the table that Reasons returns.
const (
	ReasonNoRoute             Reason = "NO_ROUTE"
	ReasonOriginDenied        Reason = "ORIGIN_DENIED"
	ReasonUnauthenticated     Reason = "UNAUTHENTICATED"
	ReasonPermissionDenied    Reason = "PERMISSION_DENIED"
	ReasonTokenExpired        Reason = "TOKEN_EXPIRED"
	ReasonAuthUnavailable     Reason = "AUTH_UNAVAILABLE"
	ReasonBadRequest          Reason = "BAD_REQUEST"
	ReasonUnsupportedEncoding Reason = "UNSUPPORTED_ENCODING"
	ReasonRequestTooLarge     Reason = "REQUEST_TOO_LARGE"
	ReasonResponseTooLarge    Reason = "RESPONSE_TOO_LARGE"
	ReasonMetadataTooLarge    Reason = "METADATA_TOO_LARGE"
	ReasonLimitExceeded       Reason = "LIMIT_EXCEEDED"
	ReasonOverloaded          Reason = "OVERLOADED"
	ReasonUpstreamUnreachable Reason = "UPSTREAM_UNREACHABLE"
	ReasonUpstreamUnhealthy   Reason = "UPSTREAM_UNHEALTHY"
	ReasonUpstreamReset       Reason = "UPSTREAM_RESET"
	ReasonUpstreamSilent      Reason = "UPSTREAM_SILENT"
	ReasonUpstreamNotGRPC     Reason = "UPSTREAM_NOT_GRPC"
	ReasonMissingTrailers     Reason = "MISSING_TRAILERS"
	ReasonDescriptorMismatch  Reason = "DESCRIPTOR_MISMATCH"
	ReasonResponseNotJSON     Reason = "RESPONSE_NOT_JSON"
	ReasonBadCardinality      Reason = "BAD_CARDINALITY"
	ReasonFallbackLoop        Reason = "FALLBACK_LOOP"
	ReasonDeadlineExceeded    Reason = "DEADLINE_EXCEEDED"
	ReasonClientGone          Reason = "CLIENT_GONE"
	ReasonClientSilent        Reason = "CLIENT_SILENT"
	ReasonIdleTimeout         Reason = "IDLE_TIMEOUT"
	ReasonMaxAge              Reason = "MAX_AGE"
	ReasonSlowConsumer        Reason = "SLOW_CONSUMER"
	ReasonSlowSender          Reason = "SLOW_SENDER"
	ReasonHandshakeTimeout    Reason = "HANDSHAKE_TIMEOUT"
	ReasonStopped             Reason = "STOPPED"
	ReasonDraining            Reason = "DRAINING"
	ReasonInternal            Reason = "INTERNAL"
)

// A ReasonInfo is one row of the table of culvert's own statuses.
type ReasonInfo struct {
	Reason  Reason
	Code    codes.Code
	HTTP    int    // the HTTP status for answers that aren't a call's
	Meaning string // what happened
	Remedy  string // what to do about it
}

// reasons is the table. If the code of a reason depends on the upstream or an
// Authenticator, the row has the most frequent code.
var reasons = []ReasonInfo{
	{ReasonNoRoute, codes.Unimplemented, 404, "no route leads to the method, or it is not exposed here", "call another host or method; or add a route to " + Named(KeyRoutes) + ", or change " + Named(KeyMethodsAllow) + " and " + Named(KeyMethodsDeny) + " to allow the method"},
	{ReasonOriginDenied, codes.PermissionDenied, 403, "the page's origin may not call this server", "allow it with " + ToSet(KeyOrigins, "")},
	{ReasonUnauthenticated, codes.Unauthenticated, 401, "the call can't be authenticated", "send valid credentials; the message says what is wrong with them"},
	{ReasonPermissionDenied, codes.PermissionDenied, 403, "the client is authenticated, but may not make this call", "get the permission, or use other credentials"},
	{ReasonTokenExpired, codes.Unauthenticated, 401, "the credential of a running call expired", "call again with a new credential"},
	{ReasonAuthUnavailable, codes.Unavailable, 503, "whoever judges credentials doesn't answer", "try again; the log has the cause under this call id"},
	{ReasonBadRequest, codes.InvalidArgument, 400, "the client's request is malformed", "fix the client; the message says which byte or field is wrong"},
	{ReasonUnsupportedEncoding, codes.Unimplemented, 415, "the messages use a compression that culvert doesn't support, or are JSON that it can't convert", "use gzip or no compression; send protobuf, or give culvert the descriptors: turn on server reflection at the backend, or set " + Named(KeyDescriptors)},
	{ReasonRequestTooLarge, codes.ResourceExhausted, 413, "a request message is over the limit", "send smaller messages or raise " + Named(KeyMessageBytes)},
	{ReasonResponseTooLarge, codes.ResourceExhausted, 502, "a response message is over the limit", "send smaller messages or raise " + Named(KeyMessageBytes)},
	{ReasonMetadataTooLarge, codes.ResourceExhausted, 431, "the metadata is over the limit", "send less metadata or raise " + Named(KeyHeaderBytes)},
	{ReasonLimitExceeded, codes.ResourceExhausted, 429, "a limit of this server is reached", "try again later, or raise the limit that the message names"},
	{ReasonOverloaded, codes.Unavailable, 503, "the backend accepts no more calls at the moment", "try again later; raise the backend's limit on concurrent streams, " + Named(KeyMaxConnections) + ", " + Named(KeyQueueTimeout) + ", " + Named(KeyBackendCalls) + " or " + Named(KeyWaitingCalls)},
	{ReasonUpstreamUnreachable, codes.Unavailable, 502, "the backend can't be reached", "try again; the log has the cause under this call id"},
	{ReasonUpstreamUnhealthy, codes.Unavailable, 503, "no address of the backend passes its health check", "try again; the log has the cause under this call id"},
	{ReasonUpstreamReset, codes.Unavailable, 502, "the backend broke off the call", "see the log: it has the cause under this call id"},
	{ReasonUpstreamSilent, codes.Unavailable, 504, "the backend doesn't answer, not even a ping", "try again: calls use a new connection; check whether the backend's process hangs, or the network towards it drops packets"},
	{ReasonUpstreamNotGRPC, codes.Unknown, 502, "the server at the backend's address does not speak gRPC", "check the backend's address and whether it needs TLS; the log has its answer under this call id"},
	{ReasonMissingTrailers, codes.Internal, 502, "the backend ended the call without a status", "check whether the backend or a proxy in front of it drops trailers; the log has the cause under this call id"},
	{ReasonDescriptorMismatch, codes.Internal, 502, "a message isn't what the backend's descriptors say, or they contradict protobuf's own types", "check that the descriptors are those of the program that runs at the backend; the log has the cause under this call id"},
	{ReasonResponseNotJSON, codes.Internal, 502, "a reply of the backend can't be written as JSON", "correct what the backend sends; the message says what is wrong with it"},
	{ReasonBadCardinality, codes.Unimplemented, 501, "a call for one reply is of a method that streams replies, or didn't get exactly one", "call a method that streams with the client's function for streams; else check the backend"},
	{ReasonFallbackLoop, codes.Unavailable, 508, "a request to the web server (" + Named(KeyFallback) + ") came back to culvert", "set " + Named(KeyFallback) + " to the web server's own address"},
	{ReasonDeadlineExceeded, codes.DeadlineExceeded, 504, "the call's deadline passed", "set a later deadline or find the slow part"},
	{ReasonClientGone, codes.Canceled, 499, "the client went away", "none if the client cancelled; otherwise find out why it lost its connection"},
	{ReasonClientSilent, codes.Unavailable, 408, "the client answered no ping in time", "call again; a client must answer the pings of WebSockets and HTTP/2"},
	{ReasonIdleTimeout, codes.Unavailable, 408, "no message passed for too long", "send messages more often or raise " + Named(KeyIdle)},
	{ReasonMaxAge, codes.Unavailable, 503, "the call reached the age limit", "call again, or raise " + Named(KeyMaxAge)},
	{ReasonSlowConsumer, codes.ResourceExhausted, 499, "the client accepted no data for too long", "read faster or raise " + Named(KeySlowConsumer)},
	{ReasonSlowSender, codes.DeadlineExceeded, 408, "the client began a message and did not finish it in time", "send each message without pauses, or raise " + Named(KeySlowSender)},
	{ReasonHandshakeTimeout, codes.DeadlineExceeded, 408, "the first message did not arrive in time", "send the metadata message right after the WebSocket opens"},
	{ReasonStopped, codes.Aborted, 409, "an operator of this server stopped the call", "ask the operator before you call again; the log says who stopped it"},
	{ReasonDraining, codes.Unavailable, 503, "this server is shutting down", "try again: another instance, or this one after its restart, takes the call"},
	{ReasonInternal, codes.Internal, 500, "a defect of culvert", "report it with this call id and the log"},
}

// Reasons returns the table of culvert's own statuses, with its settings said.
func Reasons(w Words) []ReasonInfo {
	said := slices.Clone(reasons)
	for i := range said {
		said[i].Meaning, said[i].Remedy = w.Say(said[i].Meaning), w.Say(said[i].Remedy)
	}
	return said
}

// OfCaller reports whether an Authenticator refuses calls with the reason: another caller's may
// pass.
func (r Reason) OfCaller() bool {
	return r == ReasonUnauthenticated || r == ReasonPermissionDenied || r == ReasonAuthUnavailable
}

// Row returns the reason's row of the table.
func (r Reason) Row() ReasonInfo { return rows[r] }

var rows = func() map[Reason]ReasonInfo {
	rows := make(map[Reason]ReasonInfo, len(reasons))
	for _, row := range reasons {
		rows[row.Reason] = row
	}
	return rows
}()
