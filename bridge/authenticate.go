package bridge

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
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
	// culvert reads one message of a WebSocket's client meanwhile. If the client has sent
	// more than one and then closes, the close frame ends the call only after
	// Authenticate has returned. On Linux the end of the connection ends the context
	// within 3 s.
	//
	// The metadata is what the backend will get, a WebSocket's first message
	// included. Its names are in lower case. It is Authenticate's until it returns,
	// and what it changes there reaches the backend.
	//
	// A client can send metadata of nearly any name. Delete or replace all values of
	// each name that the backend takes for Authenticate's own word, also if the call
	// is let in without an identity. Put such a name into Config.VouchedHeaders as
	// well: then culvert removes it from what any peer but a trusted proxy sends, and
	// its spellings with underscores from all.
	//
	// The call ends INTERNAL if Authenticate sets a name that RequestRules drops
	// ("grpc-timeout", "connection"), or a name or value that gRPC can't send. It ends
	// METADATA_TOO_LARGE if Authenticate makes the metadata larger than the limit. The
	// Observer gets the cause. Metadata that the Observer added in CallBegan isn't
	// judged and counts towards no limit, unless Authenticate changes it.
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
	before, observers := metadataBytes(c.Metadata), unsendable(c.Metadata)
	id, err = a.Authenticate(ctx, c.Method, c.Peer, c.Metadata)
	if err != nil {
		return Identity{}, unauthenticated(err)
	}
	for name, values := range unsendable(c.Metadata) {
		if was, ok := observers[name]; !ok || !slices.Equal(was, values) {
			return Identity{}, report.New(report.ReasonInternal, "internal error").Because(fmt.Errorf("the Authenticator has set the metadata %q, which can't cross, or not with this value", name))
		}
	}
	if size := metadataBytes(c.Metadata); size > before && size-c.observed > c.headers.Bytes {
		return Identity{}, tooMuchMetadata("request", size-c.observed, c.headers)
	}
	return id, nil
}

// unsendable returns a copy of the metadata that the backend can't get, or nil.
// culvert's own is in md already.
func unsendable(md metadata.MD) metadata.MD {
	var found metadata.MD
	for name, values := range md {
		reserved := toUpstream.of(name) == drop && name != forwardedUserAgent
		unprintable := !strings.HasSuffix(name, "-bin") && slices.ContainsFunc(values, func(v string) bool { return !codec.ValidValue(v) })
		if reserved || unprintable || !codec.ValidName(name) {
			if found == nil {
				found = make(metadata.MD)
			}
			found[name] = slices.Clone(values)
		}
	}
	return found
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
