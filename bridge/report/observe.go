package report

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// An Observer is told what happens. Its methods are called concurrently, on
// the path of the calls, so they return quickly; what they are handed is
// theirs to read only until they return, but for a CallInfo after Ended,
// which nobody writes any more. They must not panic, nor may a CallObserver's:
// the HTTP server recovers a panic on the goroutine of a request, but on any other,
// as a WebSocket's, a panic ends the process.
type Observer interface {
	ConnBegan(c ConnInfo)
	ConnEnded(c ConnInfo)
	Refused(r Refusal)

	// CallBegan is told of each call once its request metadata is read, and
	// returns who is told of the rest of that call; nil: nobody. The context is
	// the call's, with its deadline. The metadata is what the backend will get: what
	// is added here, as a traceparent, reaches it. culvert doesn't check what is
	// added: names and values must be what gRPC can send. A call may be refused
	// before its metadata is read. CallBegan is then told of it all the same, with
	// the metadata that was read by then: none, some or all.
	CallBegan(ctx context.Context, c *CallInfo, md metadata.MD) CallObserver
}

// A CallObserver is told what happens in one call. Two goroutines may call Message
// at a time, one for each direction. After Ended nothing is called.
type CallObserver interface {
	Header(header metadata.MD) // the backend's, before the first reply; not if there is none
	Message(d Direction, bytes int)
	Ended(c *CallInfo)
}

// Observers returns an Observer that tells all of them, in their order. It leaves
// out those that are nil. If none is left, it returns Discard.
func Observers(all ...Observer) Observer {
	all = slices.DeleteFunc(slices.Clone(all), func(o Observer) bool { return o == nil })
	switch len(all) {
	case 0:
		return Discard()
	case 1:
		return all[0]
	}
	return observers(all)
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

func (os observers) CallBegan(ctx context.Context, c *CallInfo, md metadata.MD) CallObserver {
	calls := make(callObservers, 0, len(os))
	for _, o := range os {
		if call := o.CallBegan(ctx, c, md); call != nil {
			calls = append(calls, call)
		}
	}
	return calls
}

type callObservers []CallObserver

func (os callObservers) Header(header metadata.MD) {
	for _, o := range os {
		o.Header(header)
	}
}

func (os callObservers) Message(d Direction, bytes int) {
	for _, o := range os {
		o.Message(d, bytes)
	}
}

func (os callObservers) Ended(c *CallInfo) {
	for _, o := range os {
		o.Ended(c)
	}
}

// A Direction is the way a message goes.
type Direction int

// The two directions.
const (
	Request  Direction = iota // from the client to the upstream
	Response                  // from the upstream to the client
)

// ConnInfo is one connection from a client.
type ConnInfo struct {
	Peer     string // address and port
	Listener string // its name; "" where there is none
	Tunnel   bool   // it is HTTP/2 inside a WebSocket
	Ended    string // why, after ConnEnded: EndedOrderly and the others
	Cause    string // what lay behind it, after ConnEnded; "" if nothing is known
}

// Why a connection ended.
const (
	EndedOrderly  = ""         // by the client, or with its last answer
	EndedIdle     = "idle"     // limits.connection_idle_timeout, or its memory was needed for others
	EndedAge      = "age"      // limits.connection_max_age
	EndedShutdown = "shutdown" // this server drained or closed
	EndedSilent   = "silent"   // the client answered neither pings nor probes
	EndedSlow     = "slow"     // what the client had begun did not come, or what it asked for was not taken, in time
	EndedFlood    = "flood"    // the client did too much of what costs it nothing
	EndedProtocol = "protocol" // what came can't be read
	EndedProbe    = "probe"    // by the client, which never sent a request: as load balancers check health
)

// Who made a call's status.
const (
	OriginUpstream = "upstream" // the backend: it passed untouched
	OriginCulvert  = "culvert"  // culvert itself: Reason says why
	OriginClient   = "client"   // the client went away or cancelled
)

// CallInfo is one call as an Observer sees it. Until Ended only the
// fields up to Begin are set.
type CallInfo struct {
	ID        string // in culvert's own statuses and in the response header x-request-id
	Transport string
	Method    string
	Peer      string
	Client    string // the most telling name in its verified certificate; "" where there is none
	Listener  string // the name of the one it came in on; "" where there is none
	Authority string
	Begin     time.Time

	Identity string // its name, as the Authenticator says; "" where nobody said
	Duration time.Duration
	Code     codes.Code
	Origin   string // OriginUpstream, OriginCulvert or OriginClient
	Reason   Reason // of culvert's own statuses
	Cause    string // what lay behind it; for the log only, never for a client

	MessagesIn, MessagesOut int64 // from the client; to it
	BytesIn, BytesOut       int64 // payload bytes

	Status  *status.Status
	Trailer metadata.MD
}

// A Refusal is a rule or a limit that bit.
type Refusal struct {
	Reason Reason
	Key    string // the configuration key that decides: "limits.calls"
	Peer   string
	Detail string // the origin, host or method refused; text of the peer, so escape it

	// ReportOnly says that the rule is only tried out: what it would have
	// refused went on.
	ReportOnly bool
}

// CertificateInfo is a certificate that is in use: one that clients are shown,
// or that culvert shows the backend.
type CertificateInfo struct {
	File     string   // that it is from; "" if it was made or fetched
	Names    []string // that it is for
	NotAfter time.Time
	Ending   bool // it should have been replaced by now
}

// Discard returns an Observer that does nothing.
func Discard() Observer { return discard{} }

type discard struct{}

func (discard) ConnBegan(ConnInfo)                                             {}
func (discard) ConnEnded(ConnInfo)                                             {}
func (discard) Refused(Refusal)                                                {}
func (discard) CallBegan(context.Context, *CallInfo, metadata.MD) CallObserver { return nil }

// DiscardCall returns a CallObserver that does nothing.
func DiscardCall() CallObserver { return callObservers(nil) }
