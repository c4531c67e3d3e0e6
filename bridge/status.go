package bridge

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// Causes that end a call's context.
var (
	errFinished    = errors.New("the call has ended")
	errDeadline    = report.New(report.ReasonDeadlineExceeded, "the deadline passed before the backend ended the call")
	errGone        = report.New(report.ReasonClientGone, report.ClientGone)
	errSilent      = &report.Fault{Reason: report.ReasonClientGone, Text: report.ClientGone, Cause: socket.ErrSilent, Ends: report.EndedSilent}
	errNoPong      = &report.Fault{Reason: report.ReasonClientSilent, Text: "the client answered no ping within " + pingTimeout.String(), Sent: report.SentMaybe, Cause: socket.ErrNoPong, Ends: report.EndedSilent}
	errStalled     = report.New(report.ReasonSlowConsumer, "the client answered no ping and accepted no data for too long ("+report.Named(report.KeySlowConsumer)+")").Because(socket.ErrStalled).Ending(report.EndedSlow)
	errRefusing    = &report.Fault{Reason: report.ReasonDraining, Text: "this server is shutting down and accepts no new calls", Retry: report.AnyMoment}
	errNoReply     = &report.Fault{Reason: report.ReasonBadCardinality, Text: "the backend ended the call with OK and without a message, and a unary call needs one"}
	errStreams     = &report.Fault{Reason: report.ReasonBadCardinality, Text: "the method streams its replies, and this call takes one", Remedy: "use a route for messages with the framing sse (Server-Sent Events) or ndjson (NDJSON), or a stream of the Connect protocol (application/connect+json)"}
	errManyReplies = &report.Fault{Reason: report.ReasonBadCardinality, Text: "the backend sent more than one message, and a unary call takes one"}
	errDraining    = &report.Fault{Reason: report.ReasonDraining, Text: "this server shut down while the call was running", Sent: report.SentMaybe, Retry: report.AnyMoment}
)

// silenceFault returns the fault of a client that was given up with an error of package
// socket, or nil for other errors.
func silenceFault(err error) *report.Fault {
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

// graceOf returns how long a blocked write of a call that ends with the cause may go on.
func graceOf(cause error) time.Duration {
	if f, ok := errors.AsType[*report.Fault](cause); ok {
		return max(writeGrace, time.Until(f.WriteBy))
	}
	return writeGrace
}

// An outcome is how a call ended, for the client and for the log.
type outcome struct {
	status *status.Status
	origin string
	reason report.Reason
	limit  string // the key of the limit that was reached
	cause  string
	fault  *report.Fault // culvert's own; nil: none
}

// anotherEnd is the error of a call that ends as another one did, which its message was for.
type anotherEnd interface {
	error
	End() (st *status.Status, own report.Reason) // own is empty if the backend ended the other
}

var statusOK = status.New(codes.OK, "")

// judge is the only function that makes a status from an error. nil is the upstream's
// OK. io.EOF is never the end of a call, so it is a defect here.
func judge(err error, callID string, detailed bool, words report.Words) outcome {
	if err == nil {
		return outcome{status: statusOK, origin: report.OriginUpstream}
	}
	if up, ok := errors.AsType[upstream.Status](err); ok {
		return outcome{status: up.Status, origin: report.OriginUpstream}
	}
	if other, ok := errors.AsType[anotherEnd](err); ok {
		v := outcome{origin: report.OriginUpstream}
		if v.status, v.reason = other.End(); v.reason != "" {
			v.origin = report.OriginCulvert
		}
		return v
	}
	f, ok := errors.AsType[*report.Fault](err)
	switch {
	case ok:
	case silenceFault(err) != nil:
		f = silenceFault(err)
	case errors.Is(err, context.DeadlineExceeded):
		f = errDeadline
	case errors.Is(err, context.Canceled):
		f = errGone
	case errors.Is(err, io.EOF):
		f = report.New(report.ReasonInternal, "internal error").Because(errors.New("BUG: a bare end of file ended a call"))
	default:
		f = report.New(report.ReasonInternal, "internal error").Because(err)
	}
	said := f.In(words)
	v := outcome{status: said.Status(callID, detailed), origin: report.OriginCulvert, reason: f.Reason, limit: f.Limit(), fault: f}
	if f.Reason == report.ReasonClientGone {
		v.origin = report.OriginClient
	}
	if said.Cause != nil {
		v.cause = said.Cause.Error()
	}
	return v
}
