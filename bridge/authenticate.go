package bridge

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An Authenticator says who makes a call. Its method is called concurrently.
type Authenticator interface {
	// Authenticate returns who makes the call, or an error that refuses it.
	//
	// The context ends at the call's deadline, when the client goes away, and
	// when the server shuts down. Authenticate must return then: culvert waits
	// for it. The call ends with what ended the context, whatever Authenticate
	// returns.
	//
	// The metadata is what the backend will get, a WebSocket's first message
	// included. It is Authenticate's until it returns, and what it changes there
	// reaches the backend.
	//
	// An error that has a gRPC status (status.Error) gives the client its code
	// and its message. The reason is PERMISSION_DENIED with that code, else
	// UNAUTHENTICATED. Details of the status don't cross. Any other error ends the
	// call UNAUTHENTICATED; its text goes to the log only. A panic ends the call
	// INTERNAL.
	Authenticate(ctx context.Context, method string, p Peer, md metadata.MD) (Identity, error)
}

// askWho returns what the Authenticator says of a call. The error is a fault.
func askWho(ctx context.Context, a Authenticator, c *call) (id Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = report.New(report.ReasonInternal, "internal error").Because(fmt.Errorf("the Authenticator panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	id, err = a.Authenticate(ctx, c.Method, c.Peer, c.Metadata)
	if err != nil {
		return Identity{}, unauthenticated(err)
	}
	return id, nil
}

// unauthenticated returns the fault of a call that an Authenticator refused with
// err. The status in err, if it has one, is never taken for the upstream's.
func unauthenticated(err error) *report.Fault {
	f := report.New(report.ReasonUnauthenticated, "the call can't be authenticated").Because(err)
	var has interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &has) || has.GRPCStatus().Code() == codes.OK {
		return f
	}
	st := has.GRPCStatus()
	f.Code = st.Code()
	if st.Message() != "" {
		f.Text = st.Message()
	}
	if f.Code == codes.PermissionDenied {
		f.Reason = report.ReasonPermissionDenied
	}
	return f
}
