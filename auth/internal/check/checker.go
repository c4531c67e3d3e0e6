package check

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

// A service is one of the two forms.
type service interface {
	// question returns what asks about r. It keeps none of r's maps and slices that the
	// caller may change afterwards, since it may run when the call of r has ended.
	question(r *Request) question

	// close ends the connections, and with them the questions that run.
	close() error
}

// A question asks once. It ends soon after its context. A refusal of the context's end is
// left to the caller.
type question func(context.Context) verdict

// A Checker asks one service. Its methods may be called from several goroutines.
type Checker struct {
	o       Options
	service service
	own     Edits // remove what only the service may set
	late    error // the cause of questions that took too long

	// life ends with Close, with the cause errClosed.
	life context.Context
	die  context.CancelCauseFunc

	slots   ask.Slots // taken by the questions at the service
	cache   *cache    // nil without one
	flights flights   // with a cache
	counts  ask.Counts
	once    sync.Once // Close
}

var (
	errNobodyWaits = errors.New("every call that waited for the answer has ended")
	errAnswered    = errors.New("answered")
	errClosed      = errors.New("the checker is closed")
)

// newChecker returns a Checker of a service, with checked options.
func newChecker(o Options, s service) *Checker {
	c := &Checker{
		o: o, service: s, own: removals(o.Own),
		late: fmt.Errorf("no answer in %v", o.Timeout), slots: make(ask.Slots, o.Concurrent),
	}
	c.life, c.die = context.WithCancelCause(context.Background())
	if o.Cache.TTL > 0 {
		c.cache = newCache(o.Cache)
		c.flights.byKey = make(map[key]*flight)
	}
	return c
}

// removals returns edits that remove names.
func removals(names []string) (e Edits) {
	for _, name := range names {
		e = append(e, Edit{name, "", Remove})
	}
	return e
}

// Close ends all questions, waits for their ends and closes the connections. Calls of Check
// that run end with a refusal, and so do later ones. It can be called again.
func (c *Checker) Close() (err error) {
	c.once.Do(func() {
		c.die(errClosed)
		c.slots.Close()
		c.flights.close()
		err = c.service.close()
	})
	return err
}

// Snapshot returns what happened since the Checker was made.
func (c *Checker) Snapshot() ask.Snapshot {
	s := c.counts.Snapshot(c.life, c.slots)
	if c.cache != nil {
		s.Entries, _ = c.cache.known.Size()
	}
	return s
}

// Check asks whether a call is permitted, and returns what the service changes about it. The
// error is a *Refusal, beside which only Answer.Cached says something, or the cause of ctx's end:
// then Check returns at once, and fail-open doesn't count. The caller may change r's metadata as soon as Check has returned.
func (c *Checker) Check(ctx context.Context, r Request) (Answer, error) {
	if c.cache == nil {
		q, refusal := c.question(&r)
		if refusal != nil {
			return c.end(ctx, verdict{refusal: refusal})
		}
		return c.end(ctx, c.ask(ctx, q)) // in the call's goroutine
	}
	k := keyOf(&r, c.o.Names)
	if v, ok := c.cache.known.Get(k, time.Now()); ok {
		c.counts.Cached.Add(1)
		v.answer.Cached = true
		return c.end(ctx, v)
	}
	return c.end(ctx, c.together(ctx, k, r))
}

// end counts a call's verdict and makes the results of Check of it.
func (c *Checker) end(ctx context.Context, v verdict) (Answer, error) {
	switch {
	case v.refusal == nil:
		if v.answer.Open != nil {
			c.counts.Open.Add(1)
		} else {
			c.counts.Allowed.Add(1)
		}
		return v.answer, nil
	case v.refusal.Kind != Unavailable:
		c.counts.Denied.Add(1)
	case ctx.Err() != nil:
		c.counts.Cancelled.Add(1)
		return Answer{}, context.Cause(ctx)
	default:
		c.counts.Failed.Add(1)
	}
	return Answer{Cached: v.answer.Cached}, v.refusal
}

// together asks for all calls with the key at once.
func (c *Checker) together(ctx context.Context, k key, r Request) verdict {
	f := c.flights.find(k)
	shared := f != nil
	if !shared {
		q, refusal := c.question(&r) // here, since the metadata is the call's
		if refusal != nil {
			return verdict{refusal: refusal}
		}
		f, shared = c.flights.join(k, func(ctx context.Context) verdict { //nolint:contextcheck // the question outlives its first caller
			v := c.ask(ctx, q)
			c.cache.put(k, v, time.Now())
			return v
		})
	}
	if f == nil {
		return verdict{refusal: unanswered(errClosed)}
	}
	defer c.flights.leave(k, f)
	if shared {
		c.counts.Shared.Add(1)
	}
	select {
	case <-f.done:
		v := f.v
		v.answer.Cached = shared && v.refusal != nil
		return v
	case <-ctx.Done():
		return verdict{refusal: unanswered(context.Cause(ctx))}
	}
}

// question returns the question about r, unless r is too large.
func (c *Checker) question(r *Request) (question, *Refusal) {
	if size := r.size(c.o.Names); size > c.o.Bytes {
		return nil, tooLarge(size, c.o.Bytes)
	}
	return c.service.question(r), nil
}

// ask asks in a slot and in time. The question doesn't have ctx's deadline, only its end: the
// service would tell the time of a call with a short one to be up a moment before ctx does, and
// clients could have their calls let pass by fail-open so.
func (c *Checker) ask(ctx context.Context, q question) (v verdict) {
	began := time.Now()
	defer func() {
		c.counts.Times.Add(time.Since(began))
		c.note(ctx, &v)
	}()
	in, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), c.o.Timeout, c.late)
	defer cancel()
	in, end := context.WithCancelCause(in)
	defer end(errAnswered)
	defer context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })()
	defer context.AfterFunc(c.life, func() { end(errClosed) })() //nolint:contextcheck // Close ends it, too

	if !c.slots.Take(in) {
		return c.judged(ctx, in, verdict{refusal: unanswered(fmt.Errorf("all %d questions at once wait for an answer: %w", cap(c.slots), context.Cause(in)))})
	}
	defer c.slots.Give()
	return c.judged(ctx, in, q(in))
}

// note keeps why a question failed, unless nobody waited for its answer any more.
func (c *Checker) note(call context.Context, v *verdict) {
	switch {
	case v.answer.Open != nil:
		c.counts.Problem.Set(v.answer.Open)
	case v.refusal == nil || v.refusal.Kind != Unavailable:
		c.counts.Problem.Set(nil)
	case call.Err() == nil && c.life.Err() == nil:
		c.counts.Problem.Set(v.refusal.Cause)
	}
}

// judged applies fail-open to the verdict of a question that ran in a context for a call or for
// a flight: not if one of these ended it.
func (c *Checker) judged(call, in context.Context, v verdict) verdict {
	if v.refusal == nil || !v.refusal.unanswered {
		return v
	}
	end := ask.End(in, c.late)
	if end != nil && !errors.Is(v.refusal.Cause, end) {
		v.refusal.Cause = fmt.Errorf("%w (%w)", end, v.refusal.Cause)
	}
	if c.o.FailOpen && call.Err() == nil && (end == nil || errors.Is(end, c.late)) {
		return verdict{answer: Answer{Request: c.own, Open: v.refusal.Cause}}
	}
	return v
}
