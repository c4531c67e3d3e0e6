package report

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// An Observer gets the events of a server. Its methods are called concurrently, on
// the path of the calls, so they must return quickly. They may read their arguments
// only until they return, except a CallInfo: its fields up to Begin don't change after
// CallBegan, in which an Observer may add to Kept, Route and Backend don't after the first Header or Message of the backend's, and
// none does after Ended.
// If CallBegan or a method of a CallObserver other than Ended panics, culvert ends the call
// INTERNAL. Any other panic costs its own event. culvert logs and counts each (Panics).
type Observer interface {
	ConnBegan(c ConnInfo)
	ConnEnded(c ConnInfo)
	Refused(r Refusal)
	WebEnded(w *WebInfo) // a request to the web server is over

	// CallBegan is called for each call once its request metadata is read. It returns
	// the observer of the rest of that call, or nil. The context is the call's, with
	// its deadline. The metadata is what the backend will get: an addition here, such
	// as a traceparent, reaches the backend. culvert doesn't check additions: gRPC
	// must be able to send the names and values. A call may be refused before its
	// metadata is read. CallBegan is called for it, too, with the metadata read so
	// far: none, some or all.
	CallBegan(ctx context.Context, c *CallInfo, md metadata.MD) CallObserver
}

// A CallObserver gets the events of one call. Two goroutines may call Message at a
// time, one for each direction. After Ended nothing is called.
type CallObserver interface {
	Header(header metadata.MD) // the backend's, before the first reply; not called if there is none
	Message(d Direction, bytes int)
	Ended(c *CallInfo) // over HTTP/2, before the end of the answer leaves
}

// Observers returns an Observer that calls all of them, in their order. It leaves out
// nil ones. If none is left, it returns Discard.
func Observers(of ...Observer) Observer {
	var all observers
	for _, o := range of {
		switch o := o.(type) {
		case nil:
		case observers: // one list, so that a call has one, too
			all = append(all, o...)
		default:
			all = append(all, o)
		}
	}
	switch len(all) {
	case 0:
		return Discard()
	case 1:
		return all[0]
	}
	return all
}

type observers []Observer

func (os observers) ConnBegan(c ConnInfo) {
	for _, o := range os {
		o.ConnBegan(c)
	}
}

func (os observers) ConnEnded(c ConnInfo) {
	for _, o := range os {
		o.ConnEnded(c)
	}
}

func (os observers) Refused(r Refusal) {
	for _, o := range os {
		o.Refused(r)
	}
}

func (os observers) WebEnded(w *WebInfo) {
	for _, o := range os {
		o.WebEnded(w)
	}
}

func (os observers) CallBegan(ctx context.Context, c *CallInfo, md metadata.MD) CallObserver {
	var all CallObserver
	for _, o := range os {
		switch call := o.CallBegan(ctx, c, md); {
		case call == nil:
		case all == nil:
			all = call
		default:
			all = &callObservers{all, call}
		}
	}
	return all
}

// callObservers are two of one call, the first of which may be several. A program has few, so
// this is less memory than a list.
type callObservers struct{ first, last CallObserver }

func (os *callObservers) Header(header metadata.MD) {
	os.first.Header(header)
	os.last.Header(header)
}

func (os *callObservers) Message(d Direction, bytes int) {
	os.first.Message(d, bytes)
	os.last.Message(d, bytes)
}

// Ended tells both, also if one panics.
func (os *callObservers) Ended(c *CallInfo) {
	defer os.last.Ended(c)
	os.first.Ended(c)
}

// A Direction is the direction of a message.
type Direction int

// The two directions.
const (
	Request  Direction = iota // from the client to the upstream
	Response                  // from the upstream to the client
)

// ConnInfo is one connection from a client.
type ConnInfo struct {
	Peer     string // address and port
	Listener string // its name; "" if it has none
	Tunnel   bool   // it is HTTP/2 inside a WebSocket
	Ended    string // why, after ConnEnded: EndedOrderly and the others
	Cause    string // the cause behind it, after ConnEnded; "" if unknown
}

// The reasons why a connection ended.
const (
	EndedOrderly  = ""         // by the client, or with its last answer
	EndedIdle     = "idle"     // limits.connection_idle_timeout, or others needed its memory
	EndedAge      = "age"      // limits.connection_max_age
	EndedShutdown = "shutdown" // this server drained or closed
	EndedSilent   = "silent"   // the client answered neither pings nor probes
	EndedSlow     = "slow"     // the client did not finish what it had begun, or did not accept its answer, in time
	EndedFlood    = "flood"    // the client sent too much that costs it nothing
	EndedProtocol = "protocol" // the client's input is malformed
	EndedProbe    = "probe"    // by the client, without a request: like a load balancer's health check

	EndedUnauthenticated = "unauthenticated" // a tunnel without a call that the Authenticator let pass in time
)

// The origins of a call's status.
const (
	OriginUpstream = "upstream" // the backend: the status passed untouched
	OriginCulvert  = "culvert"  // culvert itself: Reason gives the reason
	OriginClient   = "client"   // the client went away or cancelled
)

// CallInfo is one call as an Observer sees it. Until Ended only the fields up to
// Begin are set, and Trace if an Observer has set it.
type CallInfo struct {
	ID        string // in culvert's own statuses and in the response header x-request-id
	Transport string
	Method    string
	Peer      string
	Client    string // the most specific name in its verified certificate; "" if there is none
	Listener  string // the name of its listener; "" if it has none
	Authority string
	Trusted   bool  // the peer is a trusted proxy, or has shown a verified certificate. False if the call's traceparent is one that the proxy could not see
	Kept      int32 // bytes that Observers keep until the call's end. Each adds its own in CallBegan; they count as the call's memory
	Begin     time.Time

	Trace *Trace // nil: the call has none

	Route    string // the name of its route; "" if it was given none
	Backend  string // the name of its backend; "" if it was given none
	Identity string // the identity's name, from the Authenticator; "" if there is none
	Rule     string // of the Authenticator, that decided about the call; "" if it names none
	Duration time.Duration
	Code     codes.Code
	Own      bool   // it is a call of culvert.v1.Path, which culvert answers itself
	Origin   string // OriginUpstream, OriginCulvert or OriginClient
	Reason   Reason // of culvert's own statuses
	Limit    string // the key of the limit that was reached; "" if none was
	Cause    string // the cause behind the status; for the log; clients see it only with detailed errors

	MessagesIn, MessagesOut int64 // from the client; to it
	BytesIn, BytesOut       int64 // payload bytes

	Status  *status.Status
	Trailer metadata.MD
}

// IdentityMetadata are the names of the metadata by which an Authenticator tells the backend who
// calls: the subject, who vouches for it, the kind of its credential, and its scopes with a
// space between them. No client can send them, in no spelling.
var IdentityMetadata = [...]string{"x-culvert-subject", "x-culvert-issuer", "x-culvert-kind", "x-culvert-scopes"}

// DefaultBackend is the name of the backend of a server that names none.
const DefaultBackend = rules.DefaultBackend

// A Refusal is a refusal by a rule or a limit.
type Refusal struct {
	Reason Reason
	Key    string // the configuration key that decided: "limits.calls"
	Peer   string
	Detail string // the origin, host or method refused; text of the peer, so escape it

	// ReportOnly means that the rule is only tried out: the call or connection went
	// on.
	ReportOnly bool
}

// CertificateInfo is a certificate in use: one that culvert shows to clients or to
// the backend.
type CertificateInfo struct {
	File     string   // its file; "" if it was generated or obtained by ACME
	Names    []string // that it is for
	NotAfter time.Time
	Ending   bool // it should have been replaced already
	OnDemand bool // a client has chosen its name
}

// Discard returns an Observer that does nothing.
func Discard() Observer { return discard{} }

type discard struct{}

func (discard) ConnBegan(ConnInfo)                                             {}
func (discard) ConnEnded(ConnInfo)                                             {}
func (discard) Refused(Refusal)                                                {}
func (discard) WebEnded(*WebInfo)                                              {}
func (discard) CallBegan(context.Context, *CallInfo, metadata.MD) CallObserver { return nil }

type discardCall struct{}

func (discardCall) Header(metadata.MD)     {}
func (discardCall) Message(Direction, int) {}
func (discardCall) Ended(*CallInfo)        {}

// DiscardCall returns a CallObserver that does nothing.
func DiscardCall() CallObserver { return discardCall{} }
