package bridge

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A call is one RPC, whatever protocol carried it here.
type call struct {
	Method    string        // "/package.Service/Method", the bytes of the request target
	Authority string        // the host the client asked for; the outer one inside a tunnel
	Metadata  metadata.MD   // request metadata, decoded; reserved and hop-by-hop names removed
	Timeout   time.Duration // 0: none; an expired one is 1 ns
	Peer      Peer

	// Complete says that exactly one message and the client's end were
	// already read, so the call needs no second goroutine.
	Complete bool

	subtype     string // content-subtype of the messages: "", "proto", "json"
	coding      string // what the client compresses its messages with: "" or "gzip"
	takesGzip   bool   // the client can read compressed messages
	packReplies bool   // and the upstream compresses its own
	info        *report.CallInfo

	setCookies bool // the backend's set-cookie may pass

	policy   *policy // the one when its request arrived
	progress progress
	messages report.SizeLimit // of each; zero: the upstream's
	headers  report.SizeLimit // of the metadata, either way
	observed int              // bytes of metadata that the Observer added; known only if there is an Authenticator
	held     *memory.Entry    // what is held for the call
	evicted  atomic.Bool      // the call ends for others
	use      quota.Call       // what the call counts with
	on       *edge.Conn       // that it came in on
}

// lastMoment is how long the client has to take the end of a call whose context has
// ended.
func (c *call) lastMoment() time.Duration {
	if c.evicted.Load() {
		return evictedGrace
	}
	return closeTimeout
}

// A bodyCounted is a downstream whose transport holds what the client has sent and nobody
// has read. It counts that with the call from countBody on.
type bodyCounted interface{ countBody(r *running) }

// A downstream is the client's end of one call. Recv may run beside the
// others; none runs beside itself.
//
// The end of the call's context makes a waiting Send return: nothing more can
// be told to that client, and Finish only closes. It must not make a waiting
// Recv return, since on a WebSocket that would close the connection that
// Finish needs; Finish does. After Finish nothing is called.
type downstream interface {
	// Bind ties the downstream to the call's context. It is called once, before
	// the other methods.
	Bind(ctx context.Context, cancel context.CancelCauseFunc)

	// Prepare reads what of the request can be read before the upstream is
	// asked. It may add to the call: metadata, Timeout, Complete. It is called
	// once, unless the call is refused before. An error ends the call.
	Prepare(ctx context.Context) error

	// Recv returns one message, which the caller frees. io.EOF is the
	// client's half-close; called once more after it, Recv returns io.EOF
	// again or, where the transport has to be watched for the client going
	// away, waits for that or for Finish.
	Recv() (mem.BufferSlice, error)

	// SendHeader is called at most once, before the first Send. More says
	// that a Send or Finish follows without any wait, so that the header may
	// go out with that.
	SendHeader(md metadata.MD, more bool) error

	// Send takes the message over and frees it. It blocks while the client
	// can't take more. More is as with SendHeader.
	Send(m mem.BufferSlice, more bool) error

	// Finish tells the client the end and makes a waiting Recv return. It is
	// called exactly once.
	Finish(st *status.Status, trailer metadata.MD) error
}

// An endAwaiter is a downstream whose client is seen to go away only by reading.
type endAwaiter interface {
	// AwaitEnd waits until the client goes away or breaks a rule, and returns what
	// Recv would. It takes no message: it returns nil where the next one begins, and
	// after StopAwaiting. Recv then goes on as if AwaitEnd had not been called. It is
	// called in place of Recv.
	AwaitEnd() error

	// StopAwaiting makes AwaitEnd return. It is called beside it, at most once, and
	// returns after stopped is closed: AwaitEnd has returned then.
	StopAwaiting(stopped <-chan struct{})
}
