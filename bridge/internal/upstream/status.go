package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A localStatus is a status that grpc-go makes itself. Its text identifies it: the
// library has no other mark. Tests against real peers that misbehave check the texts.
type localStatus struct {
	text   string // its beginning; if exact, all of it
	code   codes.Code
	reason report.Reason
	says   string
	keep   bool // keep grpc-go's code, which follows gRPC's own mapping, instead of the reason's

	// These distinguish it from the upstream's own text after trailers arrived: an
	// evenTrailed row may occur in spite of them, and then all of these must apply.
	evenTrailed, exact, packed, overLimit bool
}

const (
	saysTooLarge  = "a response message is over the limit"
	saysNotPacked = "a response message can't be decompressed"
	saysNotGRPC   = "the backend's answer is not gRPC"
	saysDraining  = "the backend is shutting down and did not take the call"
	httpStatus    = "unexpected HTTP status code received from server: "
	rstRefused    = "stream terminated by RST_STREAM with error code: REFUSED_STREAM"
	leftOut       = "the connection is draining"                                       // by a GOAWAY
	leftOutHeader = "the stream is rejected because server is draining the connection" // by a GOAWAY, from Header
)

var localStatuses = []localStatus{
	{text: "grpc: received message larger than max (", code: codes.ResourceExhausted, reason: report.ReasonResponseTooLarge, says: saysTooLarge, evenTrailed: true, overLimit: true},
	{text: "grpc: received message after decompression larger than max ", code: codes.ResourceExhausted, reason: report.ReasonResponseTooLarge, says: saysTooLarge, evenTrailed: true, packed: true, overLimit: true},
	{text: "unexpected EOF", code: codes.Internal, reason: report.ReasonUpstreamReset, says: "the backend ended the call inside a message", keep: true, evenTrailed: true, exact: true},
	{text: "grpc: failed to decompress", code: codes.Internal, reason: report.ReasonUpstreamReset, says: saysNotPacked, keep: true, evenTrailed: true, packed: true},
	{text: "grpc: failed to read decompressed data", code: codes.Internal, reason: report.ReasonUpstreamReset, says: saysNotPacked, keep: true, evenTrailed: true, packed: true},
	{text: "grpc: Decompressor is not installed", code: codes.Internal, reason: report.ReasonUpstreamReset, says: "culvert doesn't support the compression of the backend's response", keep: true, evenTrailed: true, packed: true},
	{text: "grpc: compressed flag set with identity or empty encoding", code: codes.Internal, reason: report.ReasonUpstreamReset, says: "a response message is marked as compressed, but the backend names no coding", keep: true, evenTrailed: true},
	{text: "grpc: received unexpected payload format", code: codes.Internal, reason: report.ReasonUpstreamReset, says: "a response message begins with an unknown flag", keep: true, evenTrailed: true},
	{text: "transport: malformed grpc-status: ", code: codes.Unknown, reason: report.ReasonUpstreamReset, says: "the backend's status is not a number", keep: true},
	{text: "transport: malformed http-status", code: codes.Internal, reason: report.ReasonUpstreamNotGRPC, says: saysNotGRPC, keep: true},
	{text: "server closed the stream without sending trailers", code: codes.Internal, reason: report.ReasonMissingTrailers, says: "the backend ended the call without a status"},
	{text: "a HEADERS frame cannot appear in the middle of a stream", code: codes.Internal, reason: report.ReasonUpstreamReset, says: "the backend broke HTTP/2's rules", keep: true},
	{text: "peer header list size exceeded limit", code: codes.Internal, reason: report.ReasonMetadataTooLarge, says: "the response metadata is over the limit (" + report.KeyHeaderBytes + ")", evenTrailed: true, exact: true},
	{text: "header list size to send violates the maximum size", code: codes.Internal, reason: report.ReasonMetadataTooLarge, says: "the request metadata is larger than the backend accepts"},
	{text: httpStatus, code: codes.Unknown, reason: report.ReasonUpstreamNotGRPC, says: saysNotGRPC, keep: true},
	{text: "malformed header: missing HTTP", code: codes.Internal, reason: report.ReasonUpstreamNotGRPC, says: saysNotGRPC, keep: true},
	{text: "protocol error: informational header", code: codes.Internal, reason: report.ReasonUpstreamNotGRPC, says: saysNotGRPC, keep: true},
	{text: rstRefused, code: codes.Unavailable, reason: report.ReasonUpstreamReset, says: "the backend refused the call", keep: true},
	{text: "stream terminated by RST_STREAM", code: codes.Internal, reason: report.ReasonUpstreamReset, says: "the backend reset the call", keep: true},
	{text: leftOut, code: codes.Unavailable, reason: report.ReasonUpstreamReset, says: saysDraining, keep: true},
	{text: "grpc: the client connection is closing", code: codes.Canceled, reason: report.ReasonUpstreamReset, says: "culvert has closed its connections to the backend", keep: true, evenTrailed: true, exact: true},
}

// A Status is a status that really came in the upstream's trailers.
type Status struct{ *status.Status }

func (u Status) Error() string { return "upstream: " + u.Message() }

// classify turns an error of grpc-go into the upstream's own status, or a fault.
func (k *callFacts) classify(ctx context.Context, err error, limit report.SizeLimit) error {
	if errors.Is(err, io.EOF) {
		if k.trailed() {
			return io.EOF
		}
		return report.New(report.ReasonMissingTrailers, "the backend ended the call without a status")
	}
	if f := k.refusal.Load(); f != nil { // of a second attempt
		return f
	}
	st, _ := status.FromError(err)
	local, known := k.findLocal(st, limit.Bytes)
	switch {
	case k.trailed() && !known && !ended(ctx, st) && !k.place.Load().isCut(st):
		return Status{st}
	case ctx.Err() != nil && (st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded):
		return context.Cause(ctx)
	case st.Code() == codes.DeadlineExceeded:
		return context.DeadlineExceeded // grpc-go reads the clock itself, a moment before the context ends
	case known:
		return k.localFault(local, st, limit).Because(causeOf(err))
	case st.Code() == codes.Unavailable && k.silence() != nil:
		return &report.Fault{Reason: report.ReasonUpstreamSilent, Text: "the backend has gone silent: it doesn't even answer a ping", Sent: k.sentText(), Cause: k.lostBy(st)}
	case st.Code() == codes.Unavailable:
		return &report.Fault{Reason: report.ReasonUpstreamReset, Text: "the connection to the backend was lost", Sent: k.sentText(), Cause: k.lostBy(st)}
	default:
		return &report.Fault{Reason: report.ReasonUpstreamReset, Code: st.Code(), Text: "the backend broke off the call", Sent: k.sentText(), Cause: causeOf(err)}
	}
}

// lostBy returns the cause of a status of a lost connection.
func (k *callFacts) lostBy(st *status.Status) error {
	if p := k.place.Load(); p != nil {
		if why := p.link.wire.lost(); why != nil {
			return &cause{why.Error(), st}
		}
	}
	return &cause{st.Message(), st}
}

// silence returns why the call's connection was given up, if the backend answered no ping,
// or nil.
func (k *callFacts) silence() error {
	if p := k.place.Load(); p != nil {
		return p.link.wire.watch.gaveUp()
	}
	return nil
}

// localFault returns the fault of a row.
func (k *callFacts) localFault(l localStatus, st *status.Status, limit report.SizeLimit) *report.Fault {
	if isTooMuchMetadata(l.text) {
		return requestTooLargeForBackend(nil)
	}
	f := report.New(l.reason, l.says)
	f.Sent = k.sentText()
	if l.says == saysTooLarge {
		f.Text += " (" + limit.Key + ")"
		f = f.UnlessRaised(limit.Key)
	}
	if place := k.place.Load(); (l.says == saysDraining || l.text == rstRefused) && !(place != nil && place.answered.Load()) {
		f.Sent = report.SentNo // RFC 9113 §8.7
	}
	if l.keep {
		f.Code = st.Code()
	}
	if digits, ok := strings.CutPrefix(st.Message(), httpStatus); ok && len(digits) >= 3 {
		if code, err := strconv.Atoi(digits[:3]); err == nil {
			f.Code = codec.CodeFromHTTP(code)
		}
	}
	return f
}

// ended reports whether a status only repeats the end of the call's own context. A
// backend's status with the same text at the same moment is mistaken for it, which
// changes only the details.
func ended(ctx context.Context, st *status.Status) bool {
	return ctx.Err() != nil && len(st.Details()) == 0 &&
		(st.Message() == context.Canceled.Error() || st.Message() == context.DeadlineExceeded.Error())
}

// findLocal returns the row of a status that grpc-go made itself.
func (k *callFacts) findLocal(st *status.Status, messageBytes int) (localStatus, bool) {
	trailed := k.trailed()
	for _, l := range localStatuses {
		if !strings.HasPrefix(st.Message(), l.text) {
			continue
		}
		if !trailed || l.holds(st, k.place.Load().compressed.Load(), messageBytes) {
			return l, true
		}
	}
	return localStatus{}, false
}

// trailed reports whether the backend has ended the call with trailers.
func (k *callFacts) trailed() bool {
	p := k.place.Load()
	return p != nil && p.trailer.Load()
}

// holds reports whether a status after trailers is still grpc-go's own: a message
// before them could not be read.
func (l localStatus) holds(st *status.Status, packed bool, limit int) bool {
	if !l.evenTrailed || st.Code() != l.code || len(st.Details()) > 0 || l.packed && !packed {
		return false
	}
	if l.overLimit { // "(N vs. LIMIT)" or "LIMIT": another limit is the backend's own
		return strings.HasSuffix(strings.TrimSuffix(st.Message(), ")"), fmt.Sprintf(" %d", limit))
	}
	return !l.exact || st.Message() == l.text
}

func isTooMuchMetadata(text string) bool {
	return strings.HasPrefix(text, "header list size to send violates")
}
