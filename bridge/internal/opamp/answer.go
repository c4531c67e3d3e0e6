package opamp

import (
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// ContentType is that of a poll and of its answer.
// https://opentelemetry.io/docs/specs/opamp/#plain-http-transport
const ContentType = "application/x-protobuf"

// Refuse sets the header of an answer without a message, and returns its HTTP status and
// its body, which has all of st. reason is culvert's own for st, or empty. Agents come
// again after 429 and 503 alone, so whatever is UNAVAILABLE is 503.
func Refuse(h http.Header, st *status.Status, reason report.Reason) (code int, body []byte) {
	retry := Retry
	f := report.Fault{Reason: reason}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			f.Key = detail.GetMetadata()["limit"]
		case *errdetails.RetryInfo:
			retry = max(retry, detail.GetRetryDelay().AsDuration())
		}
	}
	switch {
	case st.Code() == codes.Unavailable:
		code = http.StatusServiceUnavailable
	case reason != "":
		code = f.HTTPStatus()
	default:
		code, _ = codec.ConnectError(st)
	}
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		h.Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	}
	h.Set("Content-Type", "application/json")
	return code, append(codec.MessageStatus(st), '\n')
}

// Failure returns the last message to an agent on a WebSocket whose call has failed.
func Failure(st *status.Status, reason report.Reason) []byte {
	_, text := codec.MessageClose(st, string(reason))
	e := codec.OpAMPError{Message: text}
	switch st.Code() {
	case codes.Unavailable, codes.ResourceExhausted:
		e.Type, e.Retry = codec.OpAMPUnavailable, Retry
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		e.Type = codec.OpAMPBadRequest
	}
	return e.AppendTo(nil, "")
}
