package bridge

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A localStatus is a status that grpc-go makes itself, known by its text: the
// library has no other mark for it. The texts are held by tests against real
// peers that misbehave so.
type localStatus struct {
	prefix  string
	code    codes.Code
	reason  Reason
	text    string
	keep    bool // keep grpc-go's code (it follows gRPC's own mapping), not the reason's
	trailed bool // may come although the upstream's trailers did
}

var localStatuses = []localStatus{
	{"grpc: received message larger than max", codes.ResourceExhausted, ReasonResponseTooLarge, "a response message is over the limit (" + keyMessageBytes + ")", false, true},
	{"grpc: received message after decompression larger than max", codes.ResourceExhausted, ReasonResponseTooLarge, "a response message expands to more than the limit (" + keyMessageBytes + ")", false, true},
	{"grpc: message after decompression larger than max", codes.ResourceExhausted, ReasonResponseTooLarge, "a response message expands to more than the limit (" + keyMessageBytes + ")", false, true},
	{"unexpected EOF", codes.Internal, ReasonUpstreamReset, "the backend ended the call inside a message", true, true},
	{"grpc: failed to decompress", codes.Internal, ReasonUpstreamReset, "a response message can't be expanded", true, true},
	{"grpc: failed to read decompressed data", codes.Internal, ReasonUpstreamReset, "a response message can't be expanded", true, true},
	{"grpc: Decompressor is not installed", codes.Unimplemented, ReasonUpstreamReset, "the backend compressed a response in a way that can't be read here", false, true},
	{"grpc: compressed flag set with identity or empty encoding", codes.Internal, ReasonUpstreamReset, "a response message is marked as compressed, but the backend names no coding", true, true},
	{"grpc: received unexpected payload format", codes.Internal, ReasonUpstreamReset, "a response message begins with an unknown flag", true, true},
	{"grpc: no decompressor available", codes.Internal, ReasonUpstreamReset, "the backend compressed a response in a way that can't be read here", true, true},
	{"server closed the stream without sending trailers", codes.Internal, ReasonMissingTrailers, "the backend ended the call without a status", false, false},
	{"a HEADERS frame cannot appear in the middle of a stream", codes.Internal, ReasonUpstreamReset, "the backend broke HTTP/2's rules", true, false},
	{"peer header list size exceeded limit", codes.Internal, ReasonMetadataTooLarge, "the response metadata is over the limit (" + keyHeaderBytes + ")", false, false},
	{"header list size to send violates the maximum size", codes.Internal, ReasonMetadataTooLarge, "the request metadata is larger than the backend accepts", false, false},
	{"unexpected HTTP status code received from server", codes.Unknown, ReasonUpstreamNotGRPC, "the backend's answer is not gRPC", true, false},
	{"malformed header: missing HTTP", codes.Internal, ReasonUpstreamNotGRPC, "the backend's answer is not gRPC", true, false},
	{"protocol error: informational header", codes.Internal, ReasonUpstreamNotGRPC, "the backend's answer is not gRPC", true, false},
	{"transport: malformed http-status", codes.Internal, ReasonUpstreamNotGRPC, "the backend's answer is not gRPC", true, false},
	{"transport: received unexpected content-type", codes.Unknown, ReasonUpstreamNotGRPC, "the backend's answer is not gRPC", true, false},
	{"transport: malformed grpc-status", codes.Unknown, ReasonUpstreamReset, "the backend's status is not a number", true, false},
	{"transport: malformed ", codes.Internal, ReasonUpstreamReset, "the backend's metadata can't be read", true, false},
	{"stream terminated by RST_STREAM", codes.Internal, ReasonUpstreamReset, "the backend reset the call", true, false},
	{"the stream is rejected because server is draining", codes.Unavailable, ReasonUpstreamReset, "the backend is shutting down and did not take the call", true, false},
	{"the connection is draining", codes.Unavailable, ReasonUpstreamReset, "the backend is shutting down and did not take the call", true, false},
}

// classify makes of an error that grpc-go returned what it is: the upstream's
// own status, or a fault.
func (k *callFacts) classify(ctx context.Context, err error, limits Limits) error {
	if errors.Is(err, io.EOF) {
		if k.trailer.Load() {
			return io.EOF
		}
		return newFault(ReasonMissingTrailers, "the backend ended the call without a status")
	}
	st, _ := status.FromError(err)
	local, known := findLocal(st)
	trailed := k.trailer.Load()
	switch {
	case trailed && (!known || !local.trailed) && !ended(ctx, st):
		return upstreamStatus{st}
	case ctx.Err() != nil && (st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded):
		return context.Cause(ctx)
	case known:
		f := &fault{reason: local.reason, text: local.text, sent: k.sentText(), cause: err}
		if local.keep {
			f.code = st.Code()
		}
		if local.reason == ReasonResponseTooLarge {
			f.text = faultf(local.reason, "%s: the limit is %d bytes", local.text, limits.MessageBytes).text
		}
		if strings.HasPrefix(local.text, "the backend is shutting down") {
			f.sent = "no"
		}
		if f.code == codes.DeadlineExceeded {
			return errDeadline
		}
		return f
	case st.Code() == codes.Unavailable:
		return &fault{reason: ReasonUpstreamReset, text: "the connection to the backend was lost", sent: k.sentText(), cause: err}
	default:
		return &fault{reason: ReasonUpstreamReset, code: st.Code(), text: "the backend broke the call off", sent: k.sentText(), cause: err}
	}
}

// ended says that a status only tells what the call's own context says. A
// backend that ends with the very same words at the same moment is taken for
// it, which changes nothing but the details.
func ended(ctx context.Context, st *status.Status) bool {
	return ctx.Err() != nil && len(st.Details()) == 0 &&
		(st.Message() == context.Canceled.Error() || st.Message() == context.DeadlineExceeded.Error())
}

func findLocal(st *status.Status) (localStatus, bool) {
	for _, l := range localStatuses {
		if strings.HasPrefix(st.Message(), l.prefix) && (!l.trailed || st.Code() == l.code) {
			return l, true
		}
	}
	return localStatus{}, false
}

func isTooMuchMetadata(text string) bool {
	return strings.HasPrefix(text, "header list size to send violates")
}
