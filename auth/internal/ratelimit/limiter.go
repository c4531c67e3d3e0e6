package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

// A Limiter asks one service. Its methods may be called from several goroutines.
type Limiter struct {
	o      Options
	joints joints
	asks   ratelimitv3.RateLimitServiceClient
	conn   io.Closer
	late   error // the cause of questions that took too long

	// life ends with Close, with the cause errClosed.
	life context.Context
	die  context.CancelCauseFunc

	slots  ask.Slots // taken by the questions at the service
	counts ask.Counts
	once   sync.Once // Close
}

var (
	errAnswered = errors.New("answered")
	errClosed   = errors.New("the limiter is closed")
)

// New returns a Limiter, and begins to connect.
func New(o Options) (*Limiter, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	conn, err := connect(o.Target, o.TLS)
	if err != nil {
		return nil, err
	}
	return newLimiter(o, ratelimitv3.NewRateLimitServiceClient(conn), conn), nil
}

// newLimiter returns a Limiter with checked options.
func newLimiter(o Options, asks ratelimitv3.RateLimitServiceClient, conn io.Closer) *Limiter {
	o.Descriptors = slices.Clone(o.Descriptors)
	for i, d := range o.Descriptors {
		o.Descriptors[i] = slices.Clone(d)
	}
	l := &Limiter{
		o: o, joints: jointsOf(o.Descriptors), asks: asks, conn: conn,
		late: fmt.Errorf("no answer in %v", o.Timeout), slots: make(ask.Slots, o.Concurrent),
	}
	l.life, l.die = context.WithCancelCause(context.Background())
	return l
}

// Close ends all questions, waits for their ends and closes the connection. Calls of Check
// that wait end with a refusal, and so do later ones. It can be called again.
func (l *Limiter) Close() (err error) {
	l.once.Do(func() {
		l.die(errClosed)
		l.slots.Close()
		err = l.conn.Close()
	})
	return err
}

// Snapshot returns what happened since the Limiter was made.
func (l *Limiter) Snapshot() ask.Snapshot { return l.counts.Snapshot(l.life, l.slots) }

// Check counts a call at the service, and returns what the client gets. The error is a
// *Refusal, or the cause of ctx's end: then Check returns at once, and fail-open doesn't
// count. The caller may change f's metadata as soon as Check has returned.
func (l *Limiter) Check(ctx context.Context, f Facts) (Answer, error) {
	q := l.question(&f)
	if q == nil {
		l.counts.Unasked.Add(1)
		return Answer{}, nil
	}
	began := time.Now()
	answer, refusal := l.ask(ctx, q)
	l.counts.Times.Add(time.Since(began))
	switch {
	case refusal == nil || refusal.Kind == OverLimit:
		l.counts.Problem.Set(nil)
	case ctx.Err() == nil && l.life.Err() == nil:
		l.counts.Problem.Set(refusal.Cause)
	}
	switch {
	case refusal == nil:
		l.counts.Allowed.Add(1)
		return answer, nil
	case refusal.Kind == OverLimit:
		l.counts.Denied.Add(1)
		return Answer{}, refusal
	case ctx.Err() != nil:
		l.counts.Cancelled.Add(1)
		return Answer{}, context.Cause(ctx)
	case l.o.FailClosed || l.life.Err() != nil:
		l.counts.Failed.Add(1)
		return Answer{}, refusal
	default:
		l.counts.Open.Add(1)
		return Answer{Open: refusal.Cause}, nil
	}
}

// ask asks in time. The question doesn't have ctx's deadline, only its end: the service would
// tell the time of a call with a short one to be up a moment before ctx does. It has no values
// of ctx either, such as metadata for the backend.
func (l *Limiter) ask(ctx context.Context, q *ratelimitv3.RateLimitRequest) (Answer, *Refusal) {
	in, end := context.WithCancelCause(l.life)
	defer end(errAnswered)
	defer context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })()
	in, cancel := context.WithTimeoutCause(in, l.o.Timeout, l.late)
	defer cancel()
	return l.inSlot(in, q) //nolint:contextcheck // ctx's end is its end
}

// inSlot asks in a slot.
func (l *Limiter) inSlot(ctx context.Context, q *ratelimitv3.RateLimitRequest) (Answer, *Refusal) {
	if !l.slots.Take(ctx) {
		return Answer{}, unavailable(fmt.Errorf("all %d questions at once wait for an answer: %w", cap(l.slots), context.Cause(ctx)))
	}
	defer l.slots.Give()
	response, err := l.asks.ShouldRateLimit(ctx, q)
	if err == nil {
		return l.judge(q, response)
	}
	st := status.Convert(err)
	err = &ask.RPCError{Method: "ShouldRateLimit", Code: st.Code(), Text: line(st.Message())}
	if cause := ask.End(ctx, l.late); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return Answer{}, unavailable(err)
}
