package doctor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// An ending is how a call ended, if not with OK.
type ending struct {
	status *status.Status // nil: it has none. Whoever made it speaks gRPC
	answer *Answer        // that isn't gRPC; nil: none
	result Result         // without either: Cut, Failed
	cause  Cause
	err    error
}

func (e *ending) Unwrap() error { return e.err }

func (e *ending) Error() string {
	switch {
	case e.status != nil:
		text := "answered in gRPC: " + e.status.Code().String()
		if reason := e.reason(); reason != "" {
			text += fmt.Sprintf(" (culvert: %s, %q)", printable(reason), printable(e.status.Message()))
		}
		return text
	case e.answer != nil:
		return e.answer.String()
	case e.err != nil:
		return readable(e.err)
	}
	return string(e.result)
}

// reason returns culvert's reason in the details of the status; "": somebody else's status.
func (e *ending) reason() string { return answer.Reason(e.status) }

// statusEnding returns the end of a call in fields of gRPC, which a header, trailers or a frame
// of trailers have: io.EOF for OK, or an *ending.
func statusEnding(fields map[string][]string) error {
	st, _, err := codec.ParseTrailers(fields)
	switch {
	case err != nil:
		return &ending{result: failed, cause: causeNoTrailers, err: errNoStatus}
	case st.Code() == codes.OK:
		return io.EOF
	}
	return &ending{status: st}
}

var errNoStatus = errors.New("the answer ended without grpc-status")

// insides are names of net/http's own parts in its errors.
var insides = strings.NewReplacer("readLoopPeekFailLocked: ", "", "HTTP/1.x transport connection broken: ", "", "net/http: ", "", "http2: ", "")

// readable is the text of an error, for people.
func readable(err error) string { return printable(insides.Replace(err.Error())) }

func isCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || websocket.CloseStatus(err) != -1
}

// finding returns the finding of a call that failed. No error stands for a message that came
// where the call should end.
func finding(err error) Finding {
	if err == nil {
		return found(failed, "more messages came than the service sends")
	}
	if e, ok := errors.AsType[*network.Error](err); ok {
		f := connectFinding(e) // others were opened
		if f.Cause == "" && e.Stage != network.ALPN || strings.HasPrefix(string(f.Cause), "proxy-") {
			f.Cause = causeNoConnection
		}
		return f
	}
	if wantsCertificate(err) {
		return found(refused, "%s", readable(err)).because(causeWantsCertificate)
	}
	e, ok := errors.AsType[*ending](err)
	var reset http2.StreamError
	switch {
	case errors.As(err, &reset):
		return found(cut, "the stream was reset: %v", reset.Code)
	case !ok && socket.TimedOut(err):
		return found(silent, "no answer in time")
	case !ok && isCut(err):
		return found(cut, "%s", strings.TrimSuffix("the connection was closed without an answer ("+readable(err)+")", " (EOF)"))
	case !ok:
		return found(failed, "%s", readable(err))
	case e.answer != nil:
		return refusedBy(e.answer)
	case e.status == nil:
		return found(e.result, "%s", e.Error()).because(e.cause)
	}
	f := found(unknown, "%s", e.Error())
	switch e.status.Code() {
	case codes.Unimplemented:
		f.Cause = causeUnimplemented
	case codes.Unauthenticated, codes.PermissionDenied:
		f.Cause = causeUnauthenticated
		if e.reason() == "ORIGIN_DENIED" {
			f.Cause = causeOriginDenied
		}
	case codes.ResourceExhausted:
		f.Cause = causeQuota
	default:
		if e.reason() != "" {
			f.Cause = causeServiceRefuses
		}
	}
	return f
}
