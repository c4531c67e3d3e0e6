package upstream

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Retry says when a call is sent again: after one of the codes, as long as no header
// and no message of an answer has arrived. gRFC A6.
type Retry struct {
	Attempts   int           // in all
	Codes      []codes.Code  // of a status in the backend's trailers, or of culvert's own about the connection
	Backoff    time.Duration // before the second attempt, ±20 %; it doubles with each further one. If zero, 100 ms
	MaxBackoff time.Duration // the longest backoff. If zero, 1 s
}

const (
	defaultBackoff    = 100 * time.Millisecond
	defaultMaxBackoff = time.Second

	// maxRetriedBytes bounds the messages that are kept for another attempt. It is less
	// than HTTP/2's initial window, so that sending them again doesn't wait for the
	// backend.
	maxRetriedBytes = 32 << 10

	// keptMessageBytes is about what a kept message takes besides its bytes.
	keptMessageBytes = 64
)

// A retried is the part of a Stream whose call may be sent again.
//
// The goroutine that receives begins each attempt. It does so with sending locked, so
// that the goroutine that sends continues with the new stream.
type retried struct {
	open   func(previous int) error // begins an attempt
	policy *Retry
	budget *retryBudget
	entry  *memory.Entry // counts the kept messages; may be nil

	// Only the receiver uses these.
	attempts int   // so far
	settled  bool  // an answer has begun, or no other attempt is due
	end      error // how the call ended, if no answer has begun
	unopened bool  // the last attempt got no stream
	reached  bool  // an attempt before the last one may have reached the backend

	sending sync.Mutex // held to send, and to change the stream
	closed  bool       // the client has half-closed; guarded by sending

	mu        sync.Mutex
	kept      []mem.BufferSlice // sent so far
	keptBytes int               // what they take
	committed bool              // nothing is kept, so the call can't be sent again
}

// openRetried opens a stream that may be replaced until an answer begins.
func (u *Upstream) openRetried(s *Stream, giveUp context.CancelCauseFunc, r Request) error {
	plain := r.Metadata
	a := &retried{policy: r.Retry, budget: &u.retries, entry: r.Held}
	a.open = func(previous int) error {
		if previous > 0 {
			r.Metadata = plain.Copy()
			r.Metadata["grpc-previous-rpc-attempts"] = []string{strconv.Itoa(previous)}
		}
		return u.attempt(s, giveUp, r)
	}
	for {
		a.attempts++
		end := a.open(a.attempts - 1)
		if end == nil {
			s.again = a
			return nil
		}
		if end = a.pause(s.ctx, end, nil); end != nil {
			return end
		}
	}
}

// settle returns when an answer has begun, or no other attempt is due.
func (s *Stream) settle() {
	a := s.again
	if a.settled {
		return
	}
	a.settled = true
	defer a.commit()
	for {
		if md, err := s.stream.Header(); err == nil && len(md) > 0 {
			a.budget.succeeded()
			return
		}
		var end error
		for end == nil { // without a header, there is no message
			var m mem.BufferSlice
			m, end = s.recv()
			m.Free()
		}
		if a.end = s.retry(end); a.end != nil {
			return
		}
	}
}

// retry begins another attempt after the end of one. It returns nil if there is a
// stream, else how the call ends.
func (s *Stream) retry(end error) error {
	a := s.again
	trailer := s.stream.Trailer()
	for {
		if err := a.pause(s.ctx, end, trailer); err != nil {
			return err
		}
		a.sending.Lock()
		if a.isCommitted() { // by what was sent meanwhile
			a.sending.Unlock()
			return a.last(end)
		}
		err := s.reopen()
		a.sending.Unlock()
		if err == nil {
			return nil
		}
		end, trailer = err, nil
	}
}

// reopen begins an attempt, and sends what was sent before. sending is held.
func (s *Stream) reopen() error {
	a := s.again
	s.facts.flow.unborn.Store(true)
	s.facts.flow.unqueueAll()
	a.attempts++
	err := a.open(a.attempts - 1)
	a.unopened = err != nil
	if err != nil {
		return err
	}
	for _, m := range a.kept { // only Send adds to it, and only settle commits from here on
		m.Ref()
		if s.send(m) != nil {
			break // Recv has the status
		}
	}
	if a.closed {
		_ = s.stream.CloseSend() // always nil; the status comes from Recv
	}
	return nil
}

// sendRetried keeps the message for another attempt, if it can, and sends it.
func (s *Stream) sendRetried(m mem.BufferSlice) error {
	a := s.again
	a.sending.Lock()
	defer a.sending.Unlock()
	kept := a.keep(m)
	err := s.send(m)
	if kept && errors.Is(err, io.EOF) {
		return nil // Recv decides whether there is another attempt, which sends it
	}
	return err
}

// keep reports whether the message is kept for another attempt.
func (a *retried) keep(m mem.BufferSlice) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes := m.Len() + keptMessageBytes
	if a.keptBytes+bytes > maxRetriedBytes {
		a.commitLocked()
	}
	if a.committed {
		return false
	}
	m.Ref()
	a.kept = append(a.kept, slices.Clone(m)) // who sends may use the slice again
	a.keptBytes += bytes
	if a.entry != nil {
		a.entry.Add(memory.Small, bytes)
	}
	return true
}

func (a *retried) isCommitted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.committed
}

// commit gives up any other attempt, and what is kept for it.
func (a *retried) commit() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.commitLocked()
}

func (a *retried) commitLocked() {
	a.committed = true
	for _, m := range a.kept {
		m.Free()
	}
	if a.entry != nil && a.keptBytes > 0 {
		a.entry.Sub(memory.Small, a.keptBytes)
	}
	a.kept, a.keptBytes = nil, 0
}

// pause waits until another attempt is due after one that ended so. It returns nil
// then, or how the call ends if there is no other attempt.
func (a *retried) pause(ctx context.Context, end error, trailer metadata.MD) error {
	if last := a.wait(ctx, end, trailer); last != nil {
		return a.last(last)
	}
	var f *report.Fault
	unseen := errors.As(end, &f) && (f.Sent == "no" || f.Sent == "" && codeOf(f) == codes.Unavailable)
	a.reached = a.reached || !unseen
	return nil
}

// last returns how the call ends if the last attempt ended so: culvert's own status
// tells whether any attempt may have reached the backend.
func (a *retried) last(end error) error {
	var f *report.Fault
	if !a.reached || !errors.As(end, &f) || f.Sent == "maybe" {
		return end
	}
	ofAll := *f
	ofAll.Sent = "maybe"
	return &ofAll
}

// wait is pause for one attempt alone.
func (a *retried) wait(ctx context.Context, end error, trailer metadata.MD) error {
	if ctx.Err() != nil || !a.policy.wants(end) {
		if errors.Is(end, io.EOF) {
			a.budget.succeeded()
		}
		return end
	}
	if !a.budget.failed() || a.attempts >= a.policy.Attempts || a.isCommitted() {
		return end
	}
	pause, ok := pushback(trailer)
	if !ok {
		return end
	}
	if pause < 0 {
		pause = a.policy.backoff(a.attempts)
	}
	if deadline, has := ctx.Deadline(); has && time.Until(deadline) < pause {
		return end // the backend's status says more than a deadline that passes in the pause
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wants reports whether a call that ended so is sent again.
func (r *Retry) wants(end error) bool {
	var own Status
	var f *report.Fault
	switch {
	case errors.As(end, &own):
		return slices.Contains(r.Codes, own.Code())
	case !errors.As(end, &f) || f.Limit != "": // a limit that was reached isn't raised by another attempt
		return false
	case f.Reason == report.ReasonUpstreamReset && f.Sent == "no":
		return true
	default:
		return slices.Contains(r.Codes, codeOf(f))
	}
}

// codeOf returns the code of the status that clients get.
func codeOf(f *report.Fault) codes.Code {
	if f.Code == codes.OK {
		return f.Row().Code
	}
	return f.Code
}

// backoff returns the pause after this many attempts.
func (r *Retry) backoff(attempts int) time.Duration {
	first, most := cmp.Or(r.Backoff, defaultBackoff), cmp.Or(r.MaxBackoff, defaultMaxBackoff)
	pause := min(first<<min(attempts-1, 10), most)
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // it spreads attempts
}

// maxPushback is the longest pause that a backend may ask for.
const maxPushback = time.Minute

// pushback returns the pause that the backend asks for, or -1 if it asks for none. ok
// is false if it wants no other attempt. gRFC A6, "Pushback".
func pushback(trailer metadata.MD) (pause time.Duration, ok bool) {
	values := trailer["grpc-retry-pushback-ms"]
	if len(values) == 0 {
		return -1, true
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	pause = time.Duration(ms) * time.Millisecond
	return pause, err == nil && len(values) == 1 && pause >= 0 && pause <= maxPushback
}

// A retryBudget stops the retries of an upstream while many of its calls fail. It has
// 10 tokens. A failure costs one, and a success gives a tenth back. While no more than
// half are left, no call is sent again. gRFC A6, "Throttling".
type retryBudget struct{ spent atomic.Int64 } // in thousandths

const (
	allTokens    = 10_000
	failureCosts = 1_000
	successGives = 100
)

// failed notes a failure, and reports whether the call may be sent again.
func (b *retryBudget) failed() bool { return b.add(failureCosts) < allTokens/2 }

func (b *retryBudget) succeeded() {
	if b.spent.Load() > 0 {
		b.add(-successGives)
	}
}

func (b *retryBudget) add(n int64) int64 {
	for {
		before := b.spent.Load()
		after := max(0, min(before+n, allTokens))
		if b.spent.CompareAndSwap(before, after) {
			return after
		}
	}
}
