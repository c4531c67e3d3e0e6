package bridge

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A call is one RPC, whatever protocol carried it here. It is the one record of it, from
// its request to its end.
type call struct {
	caller
	watched
	ask
	decision
	deadline
	conversion

	unsettled *facts     // that the call is decided by again; nil: it is settled, or the policy has no routes
	hold      policyHold // until its stream is open
	use       quota.Call // the quotas that the call counts with

	authenticator Authenticator // nil: there is none, or it has been asked about the client
	observed      int           // bytes of metadata that the Observer added; known only if there is an Authenticator

	naming sync.Mutex // held to change the ID, Method, Route, Backend and Identity of info, and to read them beside the call
	info   *report.CallInfo

	obs  report.CallObserver // of this call
	down downstream
	to   *upstream.Upstream
	up   *upstream.Stream

	replies     replies     // how far those of up have got
	rules       clientRules // of its client's protocol
	announced   bool        // the Observer knows of it
	blind       bool        // a write deadline that passes also cuts off a client that reads
	setCookies  bool        // the backend's set-cookie may cross
	packReplies bool        // the client can read compressed messages, and the upstream compresses its
	finishing   bool        // the client is being told the end, or was

	others sync.WaitGroup // the call's goroutines but handle's
	early  *earlyRead     // nil: requests are copied only once the stream is open

	ending report.Reason // why culvert itself ends the call; set before Finish
	fault  *report.Fault // the same as a whole; nil: the backend has ended it, or a session of polls
}

// httpFault returns the fault that ends the call if it has an HTTP status of its own, in
// place of that of the call's status, or nil.
func (c *call) httpFault() *report.Fault {
	if c.fault == nil || c.fault.HTTP == 0 {
		return nil
	}
	return c.fault
}

// codingRefused reports whether the client is to be told which codings can be read.
func (c *call) codingRefused() bool { return c.fault == errCoding }

// pack compresses a reply, which it takes over.
func (c *call) pack(m mem.BufferSlice) (mem.BufferSlice, error) {
	packed, err := packing.Pack(m, c.s.account.Pool)
	if err != nil {
		return nil, report.New(report.ReasonInternal, "internal error").Because(err)
	}
	return packed, nil
}

// lastMoment returns how long the client has to accept the end of a call whose context
// has ended.
func (c *call) lastMoment() time.Duration {
	if c.evicted.Load() && !c.blind {
		return evictedGrace
	}
	return closeTimeout
}

// cutTime returns the write deadline that ends a write which has had its grace.
func (c *call) cutTime() time.Time {
	if c.blind { // on a busy machine the write may only be slow
		return time.Now().Add(closeTimeout)
	}
	return socket.LongAgo
}

// A downstream is the client's end of one call. Recv may run beside the others; no
// method runs beside itself.
//
// The end of the call's context makes a waiting Send return. If a part of the message was
// sent, nothing more can be sent to that client, and Finish only closes. The context's end must
// not make a waiting Recv return, since on a WebSocket that would close the connection that
// Finish needs. Finish makes Recv return. After Finish no method but Abort is called.
type downstream interface {
	// Bind ties the downstream to the call's context. It is called once, before
	// the other methods.
	Bind(ctx context.Context, cancel context.CancelCauseFunc)

	// Prepare reads the part of the request that can be read before culvert asks the
	// upstream. It may add to the ask. It is called once,
	// unless the call is refused before. An error ends the call.
	Prepare(ctx context.Context) error

	// Recv returns one message, which the caller frees. io.EOF is the client's
	// half-close. Called once more after it, Recv returns io.EOF again. On transports
	// that must be read to notice that the client goes away, Recv instead waits for
	// that or for Finish.
	Recv() (mem.BufferSlice, error)

	// SendHeader is called at most once, before the first Send. more means that a Send
	// or Finish follows without any wait, so that the header may leave together with
	// it.
	SendHeader(md metadata.MD, more bool) error

	// Send takes the message over and frees it. It blocks while the client can't accept
	// more. more is as with SendHeader.
	Send(m mem.BufferSlice, more bool) error

	// Flush sends what was kept for more that follows.
	Flush() error

	// Finish sends the client the end of the call, and makes a waiting Recv return. It
	// is called exactly once, or not at all if Abort is. If it returns
	// socket.ErrNothingSent, the last messages are lost with the end, and it is called once
	// more with why.
	Finish(st *status.Status, trailer metadata.MD) error

	// Abort cuts the client off, and makes a waiting Recv return. It is called after a
	// panic in Finish, or in place of Finish.
	Abort()
}

// A bodyDecoder is a downstream whose body may have a coding as a whole.
type bodyDecoder interface {
	// decodeBody is called once the call is settled, unless it is refused before. A fault
	// refuses the call.
	decodeBody() error
}

// A handled is a downstream whose call is all of one HTTP request.
type handled interface {
	// countBody has the transport count with the call the bytes of the client that nobody
	// has read yet.
	countBody()

	// Close ends the request once the call has ended. It is called on the handler's
	// goroutine, and may panic with http.ErrAbortHandler.
	Close()
}

// An upgrader is a downstream that has its request's connection for itself. Its call
// outlives the HTTP handler.
type upgrader interface {
	// upgrade makes a WebSocket of the request, unless Open does so later, and returns the
	// connection. It answers a request that it can't upgrade.
	upgrade() (net.Conn, error)

	// served returns when the HTTP handler may return, too. started is false if the call
	// hasn't started, after the end of the server.
	served(started bool)
}

// An opener is a downstream whose client learns only now that the call has begun.
type opener interface {
	// Open is called once the stream at the upstream is open, before Recv and Send. An
	// error ends the call.
	Open() error
}

// An endAwaiter is a downstream that notices only by reading that its client goes away.
type endAwaiter interface {
	// AwaitEnd waits until the client goes away or breaks a rule, and returns what Recv
	// would. It reads no message: it returns nil where the next one begins, and after
	// StopAwaiting. Recv then continues as if AwaitEnd had not been called. AwaitEnd is
	// called in place of Recv.
	AwaitEnd() error

	// StopAwaiting makes AwaitEnd return. It is called beside AwaitEnd, at most once.
	// It returns after stopped is closed, when AwaitEnd has returned.
	StopAwaiting(stopped <-chan struct{})
}
