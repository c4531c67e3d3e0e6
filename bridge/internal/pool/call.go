package pool

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Call is an attempt of a call in the pool. Its Open opens the stream. From then on, it
// has what grpc-go's own status doesn't say: what really came from the backend and what
// really went to it.
type Call struct {
	wire.Call

	// Trace is told of waits for a place and of grpc-go's own retries. It is set before Open.
	Trace *report.Trace

	pool     *Pool
	place    atomic.Pointer[place]        // the last one that the call got; nil: it has got none
	refusal  atomic.Pointer[report.Fault] // why it got no place, if it got none
	replayed atomic.Bool                  // IsReplayed
	opening  *opening                     // nil: it isn't being opened
	refused  []*address                   // that have refused the call, in earlier attempts too; guarded by the pool's mu
	earlier  int                          // attempts of the call
}

// A place is a call's place in the pool.
type place struct {
	wire.Place
	conn *conn
}

// done gives the place back.
func (p *place) done(info balancer.DoneInfo) {
	defer p.conn.wire.Catch()
	if !info.BytesSent { // grpc-go has begun no stream
		p.conn.wire.GiveUp(&p.Place)
	}
	p.conn.release(p.WasRefused(info.Err))
}

type callKey struct{}

// NewCall returns a Call whose x-request-id is id. Each message of its answer has at most so
// many bytes. after is the attempt before, or nil.
func (p *Pool) NewCall(id string, most int, after *Call) *Call {
	c := &Call{Call: wire.Call{ID: id, Most: most}, pool: p}
	if after != nil {
		c.refused, c.earlier = after.refused, after.earlier+1
	}
	return c
}

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// ErrPatience is the cause of calls that the pool gave up since they got no stream in time.
var ErrPatience = errors.New("the call got no stream in time")

// Open opens the call's stream, once. It waits for a connection, but not for long: then it
// ends the call with giveUp, which cancels ctx. The pool waits for a place on a connection,
// with its own bound. The end of ctx releases the stream.
//
// elsewhere says that another backend may take the call. Open then waits less, and doesn't
// call giveUp. The error is a *report.Fault, or the cause of ctx.
func (c *Call) Open(ctx context.Context, giveUp context.CancelCauseFunc, elsewhere bool, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	limit := c.pool.config.connectTimeout
	if elsewhere { // the call goes on
		ctx, giveUp = context.WithCancelCause(ctx)
		limit = connectGrace
	}
	if c.pool.config.outlast {
		opts = append(slices.Clip(opts), grpc.WaitForReady(true))
	}
	o := c.pool.openings.start(c.pool, limit, giveUp, elsewhere)
	c.opening = o
	stream, err := c.pool.client.NewStream(context.WithValue(ctx, callKey{}, c), bidi, method, opts...)
	c.pool.began(o)
	if o.waits && c.Trace != nil {
		c.Trace.Waited(report.WaitedForPlace, o.began)
	}
	c.opening = nil
	inTime := c.pool.openings.stop(o)
	if inTime && err == nil {
		return stream, nil
	}
	if f := c.refusal.Load(); f != nil {
		return nil, f
	}
	if !inTime {
		giveUp(ErrPatience) // the timer is about to
	}
	st, _ := status.FromError(err)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrPatience):
		f := noConnection(c.pool.whyAbsent(ErrPatience))
		if err == nil { // it got one too late
			f.Sent = report.SentMaybe
		}
		return nil, f
	case cause == nil && st.Code() == codes.Unavailable:
		return nil, noConnection(err)
	case cause != nil:
		return nil, cause
	case st.Code() == codes.DeadlineExceeded:
		return nil, context.DeadlineExceeded // grpc-go reads the clock itself, a moment before the context ends
	}
	if f := c.TooLarge(st); f != nil {
		return nil, f.Because(err)
	}
	return nil, report.New(report.ReasonInternal, "internal error").Because(err)
}

// TooLarge returns the fault for a limit that isn't culvert's if a status of grpc-go is that
// of a request whose header is larger than its connection's backend takes, or nil.
func (c *Call) TooLarge(st *status.Status) *report.Fault {
	if p := c.place.Load(); st.Code() != codes.Internal || p == nil || p.IsWritten() || !p.conn.wire.IsBounded() {
		return nil
	}
	return &report.Fault{Reason: report.ReasonMetadataTooLarge, Text: "the request metadata is larger than the backend accepts", Remedy: "send less, or raise the backend's own limit"}
}

// OnWire returns the call's last place, as its connection knows it. The call must have a
// stream.
func (c *Call) OnWire() *wire.Place { return &c.place.Load().Place }

// Conn returns the connection of that place.
func (c *Call) Conn() *wire.Conn { return c.place.Load().conn.wire }

// Refusal returns why a second attempt of grpc-go's got no place, or nil.
func (c *Call) Refusal() *report.Fault { return c.refusal.Load() }

// IsReplayed reports whether grpc-go has sent the call again by itself. Its Header and RecvMsg
// may have missed the answer then: they return it when they are asked again.
func (c *Call) IsReplayed() bool { return c.replayed.Load() }

// IsClosed reports whether culvert has closed its connections to the call's backend.
func (c *Call) IsClosed() bool {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.pool.closed
}

// repick notes that grpc-go tries a call again, which its backend has surely not seen: the
// documentation of grpc.WithDisableRetry says so of transparent retries. The pool's mu is
// held.
func (c *Call) repick() {
	p := c.place.Load()
	if p == nil {
		return
	}
	c.replayed.Store(true)
	c.Trace.Note(report.Retried)
	c.refusedAt(p)
}

// refusedAt notes that the address of the place has refused the call, unless the connection
// was lost before the call was sent on it. The pool's mu is held.
func (c *Call) refusedAt(p *place) {
	a := p.conn.slot.address
	if !p.IsWritten() {
		return
	}
	if !slices.Contains(c.refused, a) {
		c.refused = append(c.refused, a)
	}
	a.avoid()
}

// NoteRefusal notes that the call's address has refused it unseen, since grpc-go may have
// released the place without the reason. It returns how many addresses have refused the call.
func (c *Call) NoteRefusal() int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if p := c.place.Load(); p != nil {
		c.refusedAt(p)
	}
	return len(c.refused)
}

// MayBeServed reports whether an address may still serve a call that others have refused.
// If no address accepts calls, the next one to do so may. maxRefusals bounds the attempts, too,
// since connections come and go.
func (c *Call) MayBeServed() bool {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.earlier < maxRefusals && len(c.refused) < maxRefusals && slices.ContainsFunc(p.addresses, func(a *address) bool {
		return !slices.Contains(c.refused, a) && (len(p.ready) == 0 || a.accepts())
	})
}
