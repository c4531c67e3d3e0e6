package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
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
	// A client can send metadata of nearly any name. Delete or set each name that the
	// backend takes as coming from Authenticate, even if you let the call in without an
	// identity. Also put such a name into Config.VouchedHeaders:
	// culvert then removes it from requests of any peer but a trusted proxy, and its
	// spellings with underscores from all requests. The names of report.IdentityMetadata
	// need neither: no client and no proxy can send them.
	//
	// The call ends INTERNAL if Authenticate sets a name that package headers drops
	// ("grpc-timeout", "connection"), or a name or value that gRPC can't send. It ends
	// METADATA_TOO_LARGE if Authenticate makes the metadata larger than the limit. The
	// Observer gets the cause. Metadata that the Observer added in CallBegan isn't
	// checked and counts towards no limit.
	//
	// A *report.Fault ends the call as it says. An error that has a gRPC status
	// (status.Error) gives the client its code and its message. With the code
	// PERMISSION_DENIED the reason is PERMISSION_DENIED, with UNAVAILABLE it is
	// AUTH_UNAVAILABLE, else UNAUTHENTICATED. Details of the status don't cross. Any other
	// error ends the call UNAUTHENTICATED, and its text goes to the log only. A panic ends
	// the call INTERNAL.
	Authenticate(ctx context.Context, r *AuthRequest) (*Identity, error)
}

// An AuthRequest is what is known of a call whose caller is to be identified, and what the
// Authenticator says of the call besides the identity. The Authenticator has it until it
// returns.
type AuthRequest struct {
	ID        string // of the call, as in the log
	Method    string // "/package.Service/Method", as the backend receives it
	Authority string // the host that the client calls; inside a tunnel the outer one
	Scheme    string // "https" or "http", as the client has it
	Route     string // its name; "": none
	Origin    string // of the page that calls; "": no page does
	Local     net.Addr
	Peer      Peer // without an identity

	// Metadata is what the backend will get, including a WebSocket's first message. Its names
	// are in lower case. Set and Delete change it, and nothing else may.
	Metadata metadata.MD

	Own  Credentials   // that the call itself has
	Conn *ConnIdentity // what AuthenticateConn found; nil: the connection is no WebSocket, or the Authenticator no ConnAuthenticator

	// The Authenticator sets these.
	Rule       string            // what decided, for the log
	Refused    *Identity         // of the caller that an error refuses; nil: it proved none
	Backend    string            // one of those that the call's route has; "": it is culvert's choice
	EditHeader func(metadata.MD) // changes the backend's header, or the trailer of an answer without one, before it goes to the client; nil: it doesn't

	grown int   // bytes by which Set and Delete have made Metadata larger
	wrong error // of Set; nil: the backend can get all that it was given
}

// Set replaces the values of a name, which is in lower case. The caller doesn't change the values
// afterwards.
func (r *AuthRequest) Set(name string, values ...string) {
	if !sendable(name, values) {
		r.wrong = fmt.Errorf("the Authenticator set the metadata %q, whose name or value can't cross", name)
		return
	}
	if r.Metadata == nil {
		r.Metadata = make(metadata.MD)
	}
	r.grown += headers.FieldsBytes(name, values) - headers.FieldsBytes(name, r.Metadata[name])
	r.Metadata[name] = values
}

// Delete removes metadata. The name is in lower case.
func (r *AuthRequest) Delete(name string) {
	if values, ok := r.Metadata[name]; ok {
		r.grown -= headers.FieldsBytes(name, values)
		delete(r.Metadata, name)
	}
}

// Credentials are what came with a call, or with the request for its WebSocket or its tunnel.
// They are secrets.
type Credentials struct {
	Authorization []string // values of the field
	Cookie        []string // values of the field. None unless Config.AuthCookies or ForwardCookies is set, and culvert takes cookies from the page
	Bearer        string   // a token that came as a WebSocket subprotocol (Config.BearerSubprotocol)
}

// A ConnAuthenticator is an Authenticator that judges what came with the request for a
// WebSocket or a tunnel once for all of its calls.
type ConnAuthenticator interface {
	Authenticator

	// AuthenticateConn returns what it finds, which each call gets as AuthRequest.Conn. The
	// first call asks for it, and so does the first one after Apply has replaced the
	// Authenticator, after ConnIdentity.Until, and after an error. Calls whose page may not send
	// cookies have an answer of their own, without the cookies. The context is that of the call.
	// The error is one of the call, as those of Authenticate are.
	//
	// It is also asked when a client renews the credential of a connection: by
	// culvert.v1.Session/Refresh inside a tunnel, or by MessageRoute.Refresh. The request then
	// has the new credential alone. The identity must be the same as before. If there is none,
	// Authenticate is asked for the error, about a call that has no other credential.
	AuthenticateConn(ctx context.Context, r *ConnRequest) (*ConnIdentity, error)
}

// A ConnRequest is what is known of the request for a WebSocket or a tunnel.
type ConnRequest struct {
	Authority   string
	Scheme      string
	Origin      string
	Local       net.Addr
	Peer        Peer // without an identity
	Credentials Credentials
}

// A ConnIdentity is what an Authenticator has found of a connection. It doesn't change.
type ConnIdentity struct {
	Identity *Identity // nil: the connection proves none
	Value    any       // the Authenticator's own: culvert doesn't look at it
	Until    time.Time // when it is asked again; zero: never
}

// A Retirer is an Authenticator that is told once Apply has replaced it and no call can ask it
// any more.
type Retirer interface{ Retire() }

// An authentication is what a call has of its own if there is an Authenticator.
type authentication struct {
	*policyAuthenticator
	conn   *session         // nil: the call's connection is no WebSocket
	found  *sessionIdentity // of conn; nil: nobody was asked
	own    bool             // the authorization in the call's metadata is its own, not the connection's
	cookie []string         // the call's own, which count if the call's route lets its page send cookies
	sent   bool             // the call, or its connection, has a bearer token
	origin string
	scheme string
	size   int  // bytes of the call's metadata, without what the Observer has added
	done   bool // the Authenticator was asked

	backend    string            // that the Authenticator chose; "": none
	editHeader func(metadata.MD) // nil: the backend's header stays

	use     quota.Identities // those that the call counts with
	renewed time.Time        // when a message last asked for it; the reading goroutine's
}

// newAuthentication returns that of a request's call, or nil if nobody is asked.
func (a *arrival) newAuthentication(r *http.Request) *authentication {
	if a.policy.auth == nil {
		return nil
	}
	to := &authentication{policyAuthenticator: a.policy.auth, scheme: a.forward.Proto}
	if len(a.asker.Origins) > 0 {
		to.origin = a.asker.Origins[0]
	}
	switch {
	case a.tunnel:
		to.conn, to.own = a.sessionInside(), a.own
	case gate.IsUpgrade(r):
		to.conn = a.newSession(r)
	default:
		to.own = len(r.Header["Authorization"]) > 0 // else a route has made metadata of the query, which never counts
		if a.policy.takesCookies() {
			to.cookie = r.Header["Cookie"]
		}
	}
	return to
}

// authRequest returns what the Authenticator is told of the call, but for its connection.
func (c *call) authRequest() *AuthRequest {
	to := c.auth
	r := &AuthRequest{
		ID: c.info.ID, Method: c.Method, Authority: c.Authority, Scheme: to.scheme, Route: c.info.Route, Origin: to.origin,
		Local: c.local, Peer: c.peer, Metadata: c.Metadata,
	}
	r.Peer.Identity = nil
	return r
}

// proves reports whether the identity is that of the call's connection alone.
func (to *authentication) proves(id *Identity) bool {
	return to.found != nil && to.found.Identity == id
}

// askWho asks the Authenticator of a call. The error is a fault. Beside it, there may be the
// identity of the caller that it refuses.
func askWho(ctx context.Context, c *call) (id *Identity, err error) {
	to := c.auth
	to.sent = hasBearer(c.Metadata["authorization"])
	if c.tunnel && c.Method == path.Refresh && c.route.own() {
		if to.ofConn == nil {
			return nil, errNoRenewal
		}
		if id, err = c.refresh(ctx); err != nil {
			return nil, unauthenticated(err)
		}
		return id, nil
	}
	r := c.authRequest()
	if c.origin.Credentials {
		r.Own.Cookie = to.cookie
	}
	var ofConn error // why nobody knows what the connection proves
	if to.conn != nil && to.ofConn != nil {
		if to.found, ofConn = to.conn.judge(ctx, to.policyAuthenticator, c.origin.Credentials); ofConn == nil {
			r.Conn = to.found.ConnIdentity
			if newer := to.found.authorization; newer != nil && !to.own {
				c.Metadata["authorization"] = slices.Clone(newer)
			}
		} else if !c.policy.tryAuth { // else the call passes, and nothing in it may be forged
			return nil, unauthenticated(ofConn)
		}
	}
	if to.own {
		r.Own.Authorization = c.Metadata["authorization"]
	}
	if id, err = to.Authenticate(ctx, r); err == nil && ofConn != nil {
		r.Refused, err = id, ofConn
	}
	to.backend, to.editHeader = r.Backend, r.EditHeader
	if r.Rule != "" {
		c.name(func(i *report.CallInfo) { i.Rule = r.Rule })
	}
	if err != nil {
		if id, err = r.Refused, unauthenticated(err); !c.policy.tryAuth {
			return id, err
		}
	}
	// Of a call that only passes because the Authenticator is tried out, too.
	if r.wrong != nil {
		return nil, report.New(report.ReasonInternal, "internal error").Because(r.wrong)
	}
	if size := to.size + r.grown; r.grown > 0 && size > c.headers.Bytes {
		return nil, headers.TooLarge("request", size, c.headers)
	}
	return id, err
}

// chargeIdentities counts the call with its caller's identity, and with that of its connection
// if it is another one.
func (c *call) chargeIdentities() error {
	var room [2]quota.Identity
	of := room[:0]
	for _, id := range [...]*Identity{c.peer.Identity, c.auth.ofConnection()} {
		if id == nil || id.Name == "" {
			continue
		}
		if key := (quota.Identity{Issuer: id.Issuer, Name: id.Name}); !slices.Contains(of, key) {
			of = append(of, key)
		}
	}
	return c.auth.use.Begin(c.policy.quotas, of, c.peer.Addr, c.Method)
}

// ofConnection returns the identity that the connection has proved, or nil.
func (to *authentication) ofConnection() *Identity {
	if to.found == nil {
		return nil
	}
	return to.found.Identity
}

// errExpired ends a call that outlives its caller's identity.
var errExpired = report.New(report.ReasonTokenExpired, "the credential of this call has expired: call again with a new one")

// holdUntil has the registry end the call once the caller's identity doesn't hold any more. If
// it is that of the connection, or the call is one of a tunnel, a newer credential extends it.
func (c *call) holdUntil(id *Identity) error {
	switch {
	case c.auth.proves(id):
		if c.auth.found.expires.passed() { // a newer credential may have renewed it meanwhile
			return errHasExpired
		}
		c.endAt(c.auth.found.expires)
	case id.Expires.IsZero():
		if c.tunnel { // its client may know a time at which the token expires, and renew it
			c.auth.conn.callers.note(id)
		}
	case !time.Now().Before(id.Expires):
		return errHasExpired
	case c.tunnel:
		c.endAt(c.auth.conn.callers.begin(id))
	default:
		c.endAt(newExpiry(id.Expires))
	}
	return nil
}

// endAt has the registry end the call then, unless the Authenticator is only tried out.
func (c *call) endAt(e *expiry) {
	if !c.policy.tryAuth {
		c.expires.Store(e)
	}
}

// An expiry is the time at which an identity ends, in milliseconds of Unix time; 0: it never ends.
type expiry struct {
	at    atomic.Int64
	newer *expiry // of a newer credential, which counts, too; nil: there can't be one
}

func newExpiry(at time.Time) *expiry {
	e := new(expiry)
	e.set(at)
	return e
}

func (e *expiry) set(at time.Time) {
	if at.IsZero() {
		e.at.Store(0)
		return
	}
	e.at.Store(at.UnixMilli())
}

// passed reports whether the identity doesn't hold any more. e may be nil.
func (e *expiry) passed() bool {
	if e == nil {
		return false
	}
	at := e.at.Load()
	return at != 0 && time.Now().UnixMilli() >= at && (e.newer == nil || e.newer.passed())
}

// sendable reports whether the backend can get metadata that an Authenticator sets.
func sendable(name string, values []string) bool {
	if !strings.HasSuffix(name, "-bin") && slices.ContainsFunc(values, func(v string) bool { return !codec.ValidValue(v) }) {
		return false
	}
	if slices.Contains(report.IdentityMetadata[:], name) {
		return true
	}
	return codec.ValidName(name) && (name == headers.UserAgent || headers.OfRequest(name) != headers.Drop)
}

// unauthenticated returns the fault of a call that an Authenticator refused with err. A
// status in err never counts as the upstream's.
func unauthenticated(err error) *report.Fault {
	if f, ok := errors.AsType[*report.Fault](err); ok {
		return f
	}
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
