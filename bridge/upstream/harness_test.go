package upstream

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/bridgetest/parts"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
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

func wantUsed(t testing.TB, b *memory.Budget, want int64) {
	t.Helper()
	if got := b.Used(); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
}

const testMethod = "/test.Service/Method"

func errorInfo(t testing.TB, st *status.Status) *errdetails.ErrorInfo {
	t.Helper()
	if details := st.Details(); len(details) == 1 {
		if info, ok := details[0].(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	t.Errorf("the status %v has the details %v, want one ErrorInfo", st, st.Details())
	return &errdetails.ErrorInfo{}
}

// Why a call's context ends.
var (
	errFinished = errors.New("the call has ended")
	errDeadline = report.New(report.ReasonDeadlineExceeded, "the deadline passed")
)

// A verdict is how a call ended, as bridge would tell it.
type verdict struct {
	status *status.Status
	origin string
	reason report.Reason
	cause  string
}

// judge returns the verdict on an error of a stream. nil is the backend's OK.
func judge(err error) verdict {
	var own Status
	var f *report.Fault
	switch {
	case err == nil:
		return verdict{status: status.New(codes.OK, ""), origin: report.OriginUpstream}
	case errors.As(err, &own):
		return verdict{status: own.Status, origin: report.OriginUpstream}
	case errors.As(err, &f):
	case errors.Is(err, context.DeadlineExceeded):
		f = errDeadline
	default:
		f = report.New(report.ReasonInternal, "internal error").Because(err)
	}
	v := verdict{status: f.Status("id", false), origin: report.OriginCulvert, reason: f.Reason}
	if f.Cause != nil {
		v.cause = f.Cause.Error()
	}
	return v
}
