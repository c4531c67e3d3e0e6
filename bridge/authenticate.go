package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// An Authenticator identifies the caller of each call. Its method is called
// concurrently.
type Authenticator interface {
	// Authenticate returns the identity of the caller, which is nil if there is none, or an
	// error that refuses the call.
	//
	// The context ends at the call's deadline, when the client goes away, and when the
	// server shuts down. Authenticate must return then: culvert waits for it. The call
	// then ends with the context's cause, whatever Authenticate returns.
	//
	// Meanwhile culvert reads one message of a WebSocket's client. If the client has
	// sent more than one message and then closes, the close frame ends the call only
	// after Authenticate has returned. On Linux, the end of the connection ends the
	// context within 3 s.
	//
	// The metadata is what the backend will get, including a WebSocket's first message.
	// Its names are in lower case. Authenticate owns it until it returns, and its
	// changes reach the backend.
	//
	// A client can send metadata of nearly any name. Delete or replace all values of
	// each name that the backend takes as coming from Authenticate, even if you let the
	// call in without an identity. Also put such a name into Config.VouchedHeaders:
	// culvert then removes it from requests of any peer but a trusted proxy, and its
	// spellings with underscores from all requests.
	//
	// The call ends INTERNAL if Authenticate sets a name that package headers drops
	// ("grpc-timeout", "connection"), or a name or value that gRPC can't send. It ends
	// METADATA_TOO_LARGE if Authenticate makes the metadata larger than the limit. The
	// Observer gets the cause. Metadata that the Observer added in CallBegan isn't
	// checked and counts towards no limit, unless Authenticate changes it.
	//
	// An error that has a gRPC status (status.Error) gives the client its code and its
	// message. With the code PERMISSION_DENIED the reason is PERMISSION_DENIED, with
	// UNAVAILABLE it is AUTH_UNAVAILABLE, else UNAUTHENTICATED. Details of the status don't
	// cross. Any other error ends the call UNAUTHENTICATED, and its text goes to the log
	// only. A panic ends the call INTERNAL.
	Authenticate(ctx context.Context, method string, p Peer, md metadata.MD) (*Identity, error)
}

// askWho asks the Authenticator of a call. The error is a fault.
func askWho(ctx context.Context, c *call) (id *Identity, err error) {
	before, observers := headers.Size(c.Metadata), unsendable(c.Metadata)
	id, err = c.s.cfg.Authenticator.Authenticate(ctx, c.Method, c.peer, c.Metadata)
	if err != nil {
		return nil, unauthenticated(err)
	}
	for name, values := range unsendable(c.Metadata) {
		if was, ok := observers[name]; !ok || !slices.Equal(was, values) {
			return nil, report.New(report.ReasonInternal, "internal error").Because(fmt.Errorf("the Authenticator set the metadata %q, whose name or value can't cross", name))
		}
	}
	if size := headers.Size(c.Metadata); size > before && size-c.observed > c.headers.Bytes {
		return nil, headers.TooLarge("request", size-c.observed, c.headers)
	}
	return id, nil
}

// errExpired ends a call that outlives its caller's identity.
var errExpired = report.New(report.ReasonTokenExpired, "the credential of this call has expired: call again with a new one")

// holdUntil has the registry end the call once the caller's identity doesn't hold any more.
func (c *call) holdUntil(expires time.Time) error {
	switch {
	case expires.IsZero():
	case !time.Now().Before(expires):
		return report.New(report.ReasonUnauthenticated, "the credential has expired")
	default:
		c.expires.Store(expires.UnixMilli())
	}
	return nil
}

// unsendable returns the part of the metadata that culvert can't send to the backend,
// as a copy, or nil. culvert's own metadata is in md already.
func unsendable(md metadata.MD) metadata.MD {
	var found metadata.MD
	for name, values := range md {
		reserved := headers.OfRequest(name) == headers.Drop && name != headers.UserAgent
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

// unauthenticated returns the fault of a call that an Authenticator refused with err. A
// status in err never counts as the upstream's.
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
	switch f.Code { //nolint:exhaustive // the others stand for bad credentials
	case codes.PermissionDenied:
		f.Reason = report.ReasonPermissionDenied
	case codes.Unavailable:
		f.Reason, f.Sent = report.ReasonAuthUnavailable, report.SentNo
	}
	return f
}
