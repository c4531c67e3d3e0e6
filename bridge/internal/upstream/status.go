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
func (k *callFacts) classify(ctx context.Context, err error, limit report.SizeLimit) error {
	p := k.onWire()
	if errors.Is(err, io.EOF) {
		if p.Succeeded() {
			return io.EOF
		}
		return report.New(report.ReasonMissingTrailers, wire.SaysNoStatus)
	}
	if f := k.refusal.Load(); f != nil { // of a second attempt
		return f
	}
	st, _ := status.FromError(err)
	end, ended := p.EndOf(st, k.isClosed)
	switch {
	case !ended && p.IsOwn(st) && !repeatsEnd(ctx, st):
		return Status{st}
	case ctx.Err() != nil && (st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded):
		return context.Cause(ctx)
	case st.Code() == codes.DeadlineExceeded:
		return context.DeadlineExceeded // grpc-go reads the clock itself, a moment before the context ends
	case ended:
		return k.endFault(end, st, limit).Because(&cause{strings.TrimSuffix(end.Cause+st.Message(), ": "), st})
	case st.Code() == codes.Unavailable && k.silence() != nil:
		return &report.Fault{Reason: report.ReasonUpstreamSilent, Text: "the backend has gone silent: it doesn't even answer a ping", Sent: k.sentText(), Cause: k.lostBy(st)}
	case st.Code() == codes.Unavailable:
		return &report.Fault{Reason: report.ReasonUpstreamReset, Text: "the connection to the backend was lost", Sent: k.sentText(), Cause: k.lostBy(st)}
	case k.isTooLargeFor(st): // of a second attempt
		return requestTooLargeForBackend(causeOf(err))
	default:
		return &report.Fault{Reason: report.ReasonUpstreamReset, Code: st.Code(), Text: wire.SaysBroken, Sent: k.sentText(), Cause: causeOf(err)}
	}
}

// lostBy returns the cause of a status of a lost connection.
func (k *callFacts) lostBy(st *status.Status) error {
	if p := k.place.Load(); p != nil {
		if why := p.conn.wire.Lost(); why != nil {
			return &cause{why.Error(), st}
		}
	}
	return &cause{st.Message(), st}
}

// silence returns why the call's connection was given up, if the backend answered no ping,
// or nil.
func (k *callFacts) silence() error {
	if p := k.place.Load(); p != nil {
		return p.conn.wire.Silence()
	}
	return nil
}

// endFault returns the fault of an end.
func (k *callFacts) endFault(e wire.EndRow, st *status.Status, limit report.SizeLimit) *report.Fault {
	f := report.New(e.Reason, e.Says)
	f.Sent = k.sentText()
	if e.Reason == report.ReasonResponseTooLarge {
		f.Text += " (" + report.Named(limit.Key) + ")"
		f = f.UnlessRaised(limit.Key)
	}
	if e.Unseen && !k.onWire().IsAnswered() {
		f.Sent = report.SentNo
	}
	if e.Keep {
		f.Code = cmp.Or(e.Code, st.Code())
	}
	return f
}

// isTooLargeFor reports whether the status is that of a request whose header is larger than
// its connection's backend takes.
func (k *callFacts) isTooLargeFor(st *status.Status) bool {
	p := k.place.Load()
	return st.Code() == codes.Internal && p != nil && !p.IsWritten() && p.conn.wire.IsBounded()
}

// isClosed reports whether culvert has closed its connections to the call's backend.
func (k *callFacts) isClosed() bool {
	p := k.place.Load()
	return p.conn.slot != nil && p.conn.slot.address.pool.isClosed()
}

// repeatsEnd reports whether a status only repeats the end of the call's own context. A
// backend's status with the same text at the same moment is mistaken for it, which
// changes only the details.
func repeatsEnd(ctx context.Context, st *status.Status) bool {
	return ctx.Err() != nil && len(st.Details()) == 0 &&
		(st.Message() == context.Canceled.Error() || st.Message() == context.DeadlineExceeded.Error())
}
