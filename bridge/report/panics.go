package report

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Panics ends the panics of the goroutines of calls and connections, each with a line in
// the log, the stack in it, and a count. A nil *Panics only ends them.
//
// The owner of a goroutine defers Catch in the function where the goroutine begins, or
// closer to the code that may panic, if the goroutine goes on with what Catch calls.
type Panics struct {
	log *slog.Logger

	count   atomic.Int64
	skipped atomic.Int64
	limit   *rate.Limiter
}

// maxStacks bounds the lines with stacks, a second and at once: a client that has found a
// way to a panic must not fill a disk.
const maxStacks = 100

// maxStackBytes bounds a stack in a line.
const maxStackBytes = 16 << 10

// NewPanics returns a Panics that writes to the logger, whose own panics it catches.
func NewPanics(log *slog.Logger) *Panics {
	p := &Panics{limit: rate.NewLimiter(rate.Every(time.Second/maxStacks), maxStacks)}
	p.log = p.GuardLog(log)
	return p
}

// Count returns how many panics were caught so far.
func (p *Panics) Count() int64 { return p.count.Load() }

// Catch ends a panic of the goroutine, and then calls then with the fault, unless then is
// nil. Catch must be deferred itself: recover does nothing in a function that a deferred
// one calls. where names what panicked, in a few constant words.
func (p *Panics) Catch(where string, then func(*Fault)) {
	if v := recover(); v != nil {
		f := p.Note(where, v)
		if then != nil {
			defer p.Catch(where, nil)
			then(f)
		}
	}
}

// Note logs and counts a panic whose value the caller has recovered, with the facts in the
// line. It returns the fault of the call, if there is one.
func (p *Panics) Note(where string, v any, facts ...slog.Attr) *Fault {
	f := New(ReasonInternal, "internal error").Because(fmt.Errorf("panic in %s: %w", where, panicError{v}))
	p.Tell(where, v, string(debug.Stack()), facts...)
	return f
}

// Tell is Note for a panic that another package has recovered.
func (p *Panics) Tell(where string, v any, stack string, facts ...slog.Attr) {
	if p == nil {
		return
	}
	p.count.Add(1)
	if !p.limit.Allow() {
		p.skipped.Add(1)
		return
	}
	attrs := make([]any, 0, len(facts)+4)
	attrs = append(attrs, slog.String("where", where), slog.String("panic", fmt.Sprint(v)))
	for _, fact := range facts {
		attrs = append(attrs, fact)
	}
	attrs = append(attrs, slog.String("stack", stack[:min(len(stack), maxStackBytes)]), slog.Int64("not_logged", p.skipped.Swap(0)))
	p.log.Error("culvert panicked", attrs...)
}

// A panicError is the value of a panic as an error.
type panicError struct{ v any }

func (e panicError) Error() string { return fmt.Sprint(e.v) }

// Unwrap returns the value, if it is an error.
func (e panicError) Unwrap() error {
	err, _ := e.v.(error)
	return err
}

// IsPanic reports whether a fault is a panic's.
func IsPanic(err error) bool {
	f, ok := errors.AsType[*Fault](err)
	if !ok {
		return false
	}
	_, ok = errors.AsType[panicError](f.Cause)
	return ok
}
