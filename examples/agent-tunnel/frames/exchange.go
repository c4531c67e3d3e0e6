package frames

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

const (
	// Window is how many bytes of a body may wait for their reader. The sender then has
	// to wait, and the stream carries other requests.
	Window = 256 << 10

	// maxData is the size of the largest frame, so that bodies take turns.
	maxData = 32 << 10
)

// An Exchange is one end of an HTTP request and its response: it sends one of the two
// bodies and receives the other. One goroutine may send while another receives.
type Exchange struct {
	ID uint64

	ctx    context.Context // ends with the exchange
	cancel context.CancelCauseFunc
	send   func(*tunnelpb.Frame) error

	mu      sync.Mutex
	changed sync.Cond
	// What this end sends.
	credit int // bytes that the other end accepts
	// What this end receives.
	headers  *tunnelpb.Headers
	body     bytes.Buffer // not yet read
	allowed  int          // bytes that the other end may still send
	taken    int          // bytes that were read, and that the other end has no credit for yet
	trailers http.Header  // not nil: the body is complete
}

var errClosed = errors.New("the request is over")

// NewExchange returns an exchange that fails when the context ends. The caller closes it.
func NewExchange(ctx context.Context, id uint64, send func(*tunnelpb.Frame) error) *Exchange {
	ctx, cancel := context.WithCancelCause(ctx)
	x := &Exchange{ID: id, ctx: ctx, cancel: cancel, send: send, credit: Window, allowed: Window}
	x.changed.L = &x.mu
	context.AfterFunc(ctx, x.wake) // what waits must see the end
	return x
}

// Context ends when the exchange fails or is closed.
func (x *Exchange) Context() context.Context { return x.ctx }

// Fail ends the exchange with an error.
func (x *Exchange) Fail(err error) { x.cancel(err) }

// Close ends the exchange. The other end isn't told.
func (x *Exchange) Close() { x.Fail(errClosed) }

// Abort ends the exchange, and tells the other end why.
func (x *Exchange) Abort(why error) {
	_ = x.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Abort{Abort: &tunnelpb.Abort{Reason: text(why)}}}) // or the stream has ended
	x.Fail(why)
}

// Send sends a frame of this exchange.
func (x *Exchange) Send(f *tunnelpb.Frame) error {
	f.Request = x.ID
	return x.send(f)
}

// SendHeaders sends the beginning of a request or response.
func (x *Exchange) SendHeaders(h *tunnelpb.Headers) error {
	return x.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Headers{Headers: h}})
}

// wait waits until ready returns true. It returns an error if the exchange has ended.
// The caller holds mu.
func (x *Exchange) wait(ready func() bool) error {
	for x.ctx.Err() == nil && !ready() {
		x.changed.Wait()
	}
	return context.Cause(x.ctx)
}

func (x *Exchange) wake() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changed.Broadcast()
}
