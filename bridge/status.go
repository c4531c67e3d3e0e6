package bridge

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/socket"
)

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
