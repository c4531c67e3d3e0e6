// Package ask has what questions to a service have in common, whatever they are about: slots
// that bound how many are asked at once, how long they take and why the last one failed.
// counts.go has what is counted of calls, and conn.go the connection of the services that are
// asked by gRPC.
package ask

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// Slots bound the questions at a service. Its length is how many are asked now.
type Slots chan struct{}

// Take reports whether it has taken a slot before the end of ctx. Give must follow then.
func (s Slots) Take(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		if ctx.Err() == nil {
			return true
		}
		<-s // both happened at once
	case <-ctx.Done():
	}
	return false
}

// Give returns a slot.
func (s Slots) Give() { <-s }

// Close takes all slots for ever: it waits until no question runs, and none begins afterwards.
func (s Slots) Close() {
	for range cap(s) {
		s <- struct{}{}
	}
}

// End returns why a question's context has ended, or nil. late is its cause once its time is up:
// grpc-go looks at a clock, too, and may give up a moment before the context does.
func End(ctx context.Context, late error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if until, ok := ctx.Deadline(); ok && !time.Now().Before(until) {
		return late
	}
	return nil
}

// Times counts questions, and how long they took. The zero value is ready, and its methods may
// be called concurrently.
type Times struct {
	asked atomic.Uint64
	sum   atomic.Int64
}

// Add counts a question.
func (t *Times) Add(took time.Duration) {
	t.asked.Add(1)
	t.sum.Add(int64(took))
}

// Load returns how many questions there were, and how long they took on average: 0 if there was
// none.
func (t *Times) Load() (asked uint64, mean time.Duration) {
	if asked = t.asked.Load(); asked > 0 {
		mean = time.Duration(t.sum.Load()) / time.Duration(asked)
	}
	return asked, mean
}

// A Problem is why the last question had no usable answer. The zero value is none, and its
// methods may be called concurrently.
type Problem struct{ last atomic.Pointer[error] }

// Set notes how a question ended: nil with an answer.
func (p *Problem) Set(err error) {
	switch {
	case err != nil:
		p.last.Store(&err)
	case p.last.Load() != nil: // a read costs other processors nothing
		p.last.Store(nil)
	}
}

// Load returns why the last question had no usable answer, or nil if it had one.
func (p *Problem) Load() error {
	if err := p.last.Load(); err != nil {
		return *err
	}
	return nil
}

// An RPCError is a question by gRPC that failed.
type RPCError struct {
	Method string
	Code   codes.Code
	Text   string
}

func (e *RPCError) Error() string { return e.Method + ": " + e.Code.String() + ": " + e.Text }

// Lower returns a name of a service's answer with the letters A-Z in lower case. strings.ToLower
// would turn other letters into legal ones, too.
func Lower(name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			b := []byte(name)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return name
}
