package upstream

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// Helpers that several packages share, by short names.
const patience = parts.Patience

var (
	listen       = parts.Listen
	startBackend = parts.StartBackend
	serveBackend = parts.ServeBackend
	echo         = parts.Echo
	hold         = parts.Hold
	within       = parts.Within
	poll         = parts.Poll
	wantUsed     = parts.WantUsed
	errorInfo    = parts.ErrorInfo
	elapse       = parts.Elapse
	framed       = parts.Framed
	gzipped      = parts.Gzipped
	pattern      = parts.Pattern
	flip         = parts.Flip
)

// A bytesCodec hands messages through as plain bytes.
type bytesCodec = parts.BytesCodec

func await[T any](t testing.TB, what string, event <-chan T) T {
	t.Helper()
	return parts.Await(t, what, event)
}

const testMethod = "/test.Service/Method"

// Why a call's context ends.
var (
	errFinished = errors.New("the call has ended")
	errDeadline = report.New(report.ReasonDeadlineExceeded, "the deadline passed")
)

// An outcome is what an error of a stream says.
type outcome struct {
	status *status.Status
	origin string
	reason report.Reason
	cause  string
}

// judge tells apart the kinds of errors that a stream returns: the backend's status,
// a fault, or context.DeadlineExceeded. Any other kind is a defect. nil is the
// backend's OK.
func judge(err error) outcome {
	var own Status
	var f *report.Fault
	switch {
	case err == nil:
		return outcome{status: status.New(codes.OK, ""), origin: report.OriginUpstream}
	case errors.As(err, &own):
		return outcome{status: own.Status, origin: report.OriginUpstream}
	case errors.As(err, &f):
	case errors.Is(err, context.DeadlineExceeded):
		f = errDeadline
	default:
		f = report.New(report.ReasonInternal, "BUG: neither a status nor a fault").Because(err)
	}
	v := outcome{status: f.In(parts.InFile).Status("id", false), origin: report.OriginCulvert, reason: f.Reason}
	if f.Cause != nil {
		v.cause = report.Words(parts.InFile).Say(f.Cause.Error())
	}
	return v
}
