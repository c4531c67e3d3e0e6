package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/culvert-grpc/culvert/bridge/socket"
)

// errorDomain is the domain of the ErrorInfo that every status of culvert's
// own carries, and no status of an upstream is given.
const errorDomain = "culvert"

// A Reason says why culvert itself ended a call: the reason of the ErrorInfo
// in the status.
type Reason string

// The reasons, each a row of the table that Reasons returns.
const (
	ReasonNoRoute             Reason = "NO_ROUTE"
	ReasonOriginDenied        Reason = "ORIGIN_DENIED"
	ReasonBadRequest          Reason = "BAD_REQUEST"
	ReasonUnsupportedEncoding Reason = "UNSUPPORTED_ENCODING"
	ReasonRequestTooLarge     Reason = "REQUEST_TOO_LARGE"
	ReasonResponseTooLarge    Reason = "RESPONSE_TOO_LARGE"
	ReasonMetadataTooLarge    Reason = "METADATA_TOO_LARGE"
	ReasonLimitExceeded       Reason = "LIMIT_EXCEEDED"
	ReasonOverloaded          Reason = "OVERLOADED"
	ReasonUpstreamUnreachable Reason = "UPSTREAM_UNREACHABLE"
	ReasonUpstreamReset       Reason = "UPSTREAM_RESET"
	ReasonUpstreamSilent      Reason = "UPSTREAM_SILENT"
	ReasonUpstreamNotGRPC     Reason = "UPSTREAM_NOT_GRPC"
	ReasonMissingTrailers     Reason = "MISSING_TRAILERS"
	ReasonDeadlineExceeded    Reason = "DEADLINE_EXCEEDED"
	ReasonClientGone          Reason = "CLIENT_GONE"
	ReasonClientSilent        Reason = "CLIENT_SILENT"
	ReasonIdleTimeout         Reason = "IDLE_TIMEOUT"
	ReasonMaxAge              Reason = "MAX_AGE"
	ReasonSlowConsumer        Reason = "SLOW_CONSUMER"
	ReasonSlowSender          Reason = "SLOW_SENDER"
	ReasonHandshakeTimeout    Reason = "HANDSHAKE_TIMEOUT"
	ReasonDraining            Reason = "DRAINING"
	ReasonInternal            Reason = "INTERNAL"
)

// A ReasonInfo is one row of the table of culvert's own statuses.
type ReasonInfo struct {
	Reason  Reason
	Code    codes.Code
	HTTP    int    // the HTTP status where the answer is not a call's
	Meaning string // what happened
	Remedy  string // what to do about it
}

//go:generate go test -count=1 -run TestGeneratedPages . -update

// reasons is the table. A reason whose code depends on what the upstream said
// has the code that it most often has.
var reasons = []ReasonInfo{
	{ReasonNoRoute, codes.Unimplemented, 404, "the method is not exposed here", "ask for another one, or have it exposed: methods.allow and methods.deny decide"},
	{ReasonOriginDenied, codes.PermissionDenied, 403, "the page's origin may not call this server", "allow it with --allow-origin (allow_origins)"},
	{ReasonBadRequest, codes.InvalidArgument, 400, "what the client sent can't be read", "correct the client; the message says which byte or field is wrong"},
	{ReasonUnsupportedEncoding, codes.Unimplemented, 415, "the messages are compressed in a way that can't be read here", "compress with gzip or not at all"},
	{ReasonRequestTooLarge, codes.ResourceExhausted, 413, "a request message is over the limit", "send smaller messages or raise limits.message_bytes"},
	{ReasonResponseTooLarge, codes.ResourceExhausted, 502, "a response message is over the limit", "send smaller messages or raise limits.message_bytes"},
	{ReasonMetadataTooLarge, codes.ResourceExhausted, 431, "the metadata is over the limit", "send less metadata or raise limits.header_bytes"},
	{ReasonLimitExceeded, codes.ResourceExhausted, 429, "a limit of this server is reached", "try again later, or raise the limit that the message names"},
	{ReasonOverloaded, codes.Unavailable, 503, "the backend takes no more calls at the moment", "try again later; raise backend.max_connections, backend.queue_timeout or the backend's cap on concurrent streams"},
	{ReasonUpstreamUnreachable, codes.Unavailable, 503, "the backend can't be reached", "try again; the log has the cause under this call id"},
	{ReasonUpstreamReset, codes.Unavailable, 502, "the backend broke the call off", "the log has the cause under this call id"},
	{ReasonUpstreamSilent, codes.Unavailable, 504, "the backend answers nothing, not even a ping", "try again, calls use a new connection; see whether the backend's process hangs"},
	{ReasonUpstreamNotGRPC, codes.Unknown, 502, "what answers at the backend's address does not speak gRPC", "check the backend's address and whether it wants TLS; the log has its answer under this call id"},
	{ReasonMissingTrailers, codes.Internal, 502, "the backend ended the call without a status", "the backend or a proxy before it drops trailers; the log has the cause under this call id"},
	{ReasonDeadlineExceeded, codes.DeadlineExceeded, 504, "the call's deadline passed", "set a later deadline or find what is slow"},
	{ReasonClientGone, codes.Canceled, 499, "the client went away", "it cancelled or lost its connection"},
	{ReasonClientSilent, codes.Unavailable, 408, "the client answered no ping in time", "call again; a client must answer the pings of WebSockets and HTTP/2"},
	{ReasonIdleTimeout, codes.Unavailable, 408, "no message passed for too long", "send messages more often or raise limits.idle_timeout"},
	{ReasonMaxAge, codes.Unavailable, 503, "the call reached the age limit", "call again, or raise limits.max_age"},
	{ReasonSlowConsumer, codes.ResourceExhausted, 499, "the client took no data for too long", "read faster or raise limits.slow_consumer_timeout"},
	{ReasonSlowSender, codes.DeadlineExceeded, 408, "a message that had begun did not come in time", "send a message without pauses, or raise limits.slow_sender_timeout"},
	{ReasonHandshakeTimeout, codes.DeadlineExceeded, 408, "the first message did not come in time", "send the metadata message right after the WebSocket opens"},
	{ReasonDraining, codes.Unavailable, 503, "this server is shutting down", "try again: another instance or the next start takes the call"},
	{ReasonInternal, codes.Internal, 500, "a defect of culvert", "report it with this call id and the log"},
}

// Reasons returns the table of the statuses that culvert makes itself.
func Reasons() []ReasonInfo { return append([]ReasonInfo(nil), reasons...) }

var reasonRows = func() map[Reason]ReasonInfo {
	rows := make(map[Reason]ReasonInfo, len(reasons))
	for _, row := range reasons {
		rows[row.Reason] = row
	}
	return rows
}()

// A fault is why culvert itself ends a call.
type fault struct {
	reason Reason
	code   codes.Code    // codes.OK: the reason's own
	text   string        // for the client
	remedy string        // empty: the row's
	sent   string        // for UNAVAILABLE: whether the call may have reached the backend, "no" or "maybe"
	cause  error         // for the log only
	limit  string        // the key of the limit that was reached
	retry  time.Duration // when to try again; 0: nothing is said
	mute   bool          // the client can't be told any more
	ends   string        // why the call's connection ends with it; empty: it doesn't, or not for that
}

func newFault(reason Reason, text string) *fault {
	return &fault{reason: reason, text: text}
}

func faultf(reason Reason, format string, args ...any) *fault {
	return newFault(reason, fmt.Sprintf(format, args...))
}

// overLimit is a limit that is reached, and when there may be room again.
func overLimit(key string, retry time.Duration, text string) *fault {
	return &fault{reason: ReasonLimitExceeded, text: text + " (" + key + ")", limit: key, retry: retry}
}

// unlessRaised has the remedy name the limit that was met: a listener's or a
// method's own, where the reason's row names that of all.
func (f *fault) unlessRaised(key string) *fault {
	instead, _, _ := strings.Cut(f.row().Remedy, " or raise ")
	f.remedy = instead + " or raise " + key
	return f
}

// because notes what lies behind the fault, for the log. A fault doesn't
// unwrap to it: a connection's end of file is not the client's half-close.
func (f *fault) because(err error) *fault {
	f.cause = err
	return f
}

// ending says that the call's connection ends with it, and why.
func (f *fault) ending(why string) *fault {
	f.ends = why
	return f
}

func (f *fault) Error() string {
	if f.cause != nil {
		return f.text + ": " + f.cause.Error()
	}
	return f.text
}

// row is the fault's line in the table.
func (f *fault) row() ReasonInfo { return reasonRows[f.reason] }

// Causes that end a call's context.
var (
	errFinished = errors.New("the call has ended")
	errDeadline = newFault(ReasonDeadlineExceeded, "the deadline passed before the backend ended the call")
	errGone     = newFault(ReasonClientGone, "the client went away")
	errSilent   = &fault{reason: ReasonClientGone, text: errGone.text, cause: socket.ErrSilent, ends: EndedSilent}
	errNoPong   = &fault{reason: ReasonClientSilent, text: "the client answered no ping within " + pingTimeout.String(), sent: "maybe", cause: socket.ErrNoPong, ends: EndedSilent}
	errStalled  = newFault(ReasonSlowConsumer, "the client answered no ping and took nothing of what was sent for too long ("+keySlowConsumer+")").because(socket.ErrStalled).ending(EndedSlow)
	errDraining = &fault{reason: ReasonDraining, text: "this server shut down while the call was running", sent: "maybe"}
)

// silenceFault is the fault of a client that was given up with an error of
// package socket, or nil for other errors.
func silenceFault(err error) *fault {
	switch {
	case errors.Is(err, socket.ErrNoPong):
		return errNoPong
	case errors.Is(err, socket.ErrStalled):
		return errStalled
	case errors.Is(err, socket.ErrSilent):
		return errSilent
	}
	return nil
}

// An upstreamStatus is a status that really came in the upstream's trailers.
type upstreamStatus struct{ *status.Status }

func (u upstreamStatus) Error() string { return "upstream: " + u.Message() }

// A verdict is how a call ended, for the client and for the log.
type verdict struct {
	status *status.Status
	origin string
	reason Reason
	cause  string
}

// judge is the one place that makes a status from an error. nil is the
// upstream's OK; a wire's io.EOF is never an end, so it is a defect here.
func judge(err error, callID string, detailed bool) verdict {
	var up upstreamStatus
	var f *fault
	switch {
	case err == nil:
		return verdict{status: status.New(codes.OK, ""), origin: OriginUpstream}
	case errors.As(err, &up):
		return verdict{status: up.Status, origin: OriginUpstream}
	case errors.As(err, &f):
	case silenceFault(err) != nil:
		f = silenceFault(err)
	case errors.Is(err, context.DeadlineExceeded):
		f = errDeadline
	case errors.Is(err, context.Canceled):
		f = errGone
	case errors.Is(err, io.EOF):
		f = newFault(ReasonInternal, "internal error").because(errors.New("BUG: a bare end of file ended a call"))
	default:
		f = newFault(ReasonInternal, "internal error").because(err)
	}
	v := verdict{status: f.status(callID, detailed), origin: OriginCulvert, reason: f.reason}
	if f.reason == ReasonClientGone {
		v.origin = OriginClient
	}
	if f.cause != nil {
		v.cause = f.cause.Error()
	}
	return v
}

// status renders the fault for a client: what happened, what to do, and the
// call's id, under which the log has the rest.
func (f *fault) status(callID string, detailed bool) *status.Status {
	row := f.row()
	code := f.code
	if code == codes.OK {
		code = row.Code
	}
	text := f.text
	if detailed && f.cause != nil {
		text = f.Error()
	}
	remedy := f.remedy
	if remedy == "" {
		remedy = row.Remedy
	}
	if callID != "" {
		remedy = strings.Replace(remedy, "this call id", "call id "+callID, 1)
	}
	st := status.New(code, text+" ("+remedy+")")
	info := &errdetails.ErrorInfo{Reason: string(f.reason), Domain: errorDomain, Metadata: map[string]string{}}
	if callID != "" {
		info.Metadata["call_id"] = callID
	}
	if code == codes.Unavailable {
		info.Metadata["sent"] = "no"
		if f.sent != "" {
			info.Metadata["sent"] = f.sent
		}
	}
	if f.limit != "" {
		info.Metadata["limit"] = f.limit
	}
	details := []protoadapt.MessageV1{info}
	if f.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.retry)})
	}
	with, err := st.WithDetails(details...)
	if err != nil { // only an OK status refuses details
		return st
	}
	return with
}
