package upstream

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Status is a status that really came in the upstream's trailers.
type Status struct{ *status.Status }

func (u Status) Error() string { return "upstream: " + u.Message() }

// classify turns an error of grpc-go into the upstream's own status, or a fault.
func (s *Stream) classify(err error) error {
	p := s.call.OnWire()
	if errors.Is(err, io.EOF) {
		if p.Succeeded() {
			return io.EOF
		}
		return report.New(report.ReasonMissingTrailers, wire.SaysNoStatus)
	}
	if f := s.call.Refusal(); f != nil { // of a second attempt
		return f
	}
	st, _ := status.FromError(err)
	end, ended := p.EndOf(st, s.call.IsClosed)
	switch {
	case !ended && p.IsOwn(st) && !repeatsEnd(s.ctx, st):
		return Status{st}
	case s.ctx.Err() != nil && (st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded):
		return context.Cause(s.ctx)
	case st.Code() == codes.DeadlineExceeded:
		return context.DeadlineExceeded // grpc-go reads the clock itself, a moment before the context ends
	case ended:
		return s.endFault(end, st).Because(wire.Cause(strings.TrimSuffix(end.Cause+st.Message(), ": "), st))
	case st.Code() == codes.Unavailable && s.call.Conn().Silence() != nil:
		return &report.Fault{Reason: report.ReasonUpstreamSilent, Text: "the backend has gone silent: it doesn't even answer a ping", Sent: report.SentMaybe, Cause: s.lostBy(st)}
	case st.Code() == codes.Unavailable:
		return &report.Fault{Reason: report.ReasonUpstreamReset, Text: "the connection to the backend was lost", Sent: report.SentMaybe, Cause: s.lostBy(st)}
	}
	cause := wire.Cause(st.Message(), st)
	if f := s.call.TooLarge(st); f != nil { // of a second attempt
		return f.Because(cause)
	}
	return &report.Fault{Reason: report.ReasonUpstreamReset, Code: st.Code(), Text: wire.SaysBroken, Sent: report.SentMaybe, Cause: cause}
}

// lostBy returns the cause of a status of a lost connection.
func (s *Stream) lostBy(st *status.Status) error {
	if why := s.call.Conn().Lost(); why != nil {
		return wire.Cause(why.Error(), st)
	}
	return wire.Cause(st.Message(), st)
}

// endFault returns the fault of an end.
func (s *Stream) endFault(e wire.EndRow, st *status.Status) *report.Fault {
	f := report.New(e.Reason, e.Says)
	f.Sent = report.SentMaybe
	if e.Reason == report.ReasonResponseTooLarge {
		f.Text += " (" + report.Named(s.limit.Key) + ")"
		f = f.UnlessRaised(s.limit.Key)
	}
	if e.Unseen && !s.call.OnWire().IsAnswered() {
		f.Sent = report.SentNo
	}
	if e.Keep {
		f.Code = cmp.Or(e.Code, st.Code())
	}
	return f
}

// repeatsEnd reports whether a status only repeats the end of the call's own context. A
// backend's status with the same text at the same moment is mistaken for it, which
// changes only the details.
func repeatsEnd(ctx context.Context, st *status.Status) bool {
	return ctx.Err() != nil && len(st.Details()) == 0 &&
		(st.Message() == context.Canceled.Error() || st.Message() == context.DeadlineExceeded.Error())
}

// Unreached reports whether a call ended because there was no connection to the
// backend, which has surely not seen it.
func Unreached(err error) bool {
	f, ok := errors.AsType[*report.Fault](err)
	if !ok || f.Sent == report.SentMaybe {
		return false
	}
	return f.Reason == report.ReasonUpstreamUnreachable || f.Reason == report.ReasonUpstreamUnhealthy ||
		f.Reason == report.ReasonUpstreamNotGRPC
}

// Overloaded reports whether a call ended because the backend had no place for it. The
// backend has surely not seen it.
func Overloaded(err error) bool {
	f, ok := errors.AsType[*report.Fault](err)
	return ok && f.Reason == report.ReasonOverloaded
}
