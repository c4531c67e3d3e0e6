package parts

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Patience bounds events that should come at once. It is long, since other programs may
// keep the processors busy, and costs nothing if the event comes.
const Patience = 2 * time.Minute

// Within returns the test's context with a bound for events that should come at
// once.
func Within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Await waits for an event that should come at once.
func Await[T any](t testing.TB, what string, event <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-event:
	case <-time.After(Patience):
		t.Fatalf("%s: not within %v", what, Patience)
	}
	return v
}

// Poll waits for a state that no event announces: until wrong returns "". wrong
// describes the missing state, for the test's failure. Call Poll from the test's
// goroutine.
func Poll(t testing.TB, wrong func() string) {
	t.Helper()
	if problem := PollFor(Patience, wrong); problem != "" {
		t.Fatalf("%s: not within %v", problem, Patience)
	}
}

// PollFor polls for at most d, and returns wrong's last result. It can be called
// from any goroutine.
func PollFor(d time.Duration, wrong func() string) string {
	end := time.Now().Add(d)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		problem := wrong()
		if problem == "" || time.Now().After(end) {
			return problem
		}
		<-time.After(pause)
	}
}

// The pauses between two looks double from the first one to the last one: a short
// wait ends soon, and a long one leaves the CPU to the work that it waits for.
const (
	firstPause = 100 * time.Microsecond
	lastPause  = 20 * time.Millisecond
)

// Elapse lets a bubble's time pass, with everything that happens by then.
func Elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// StandingClock returns a clock of seconds that stands.
func StandingClock() *atomic.Int64 {
	clock := new(atomic.Int64)
	clock.Store(1)
	return clock
}
