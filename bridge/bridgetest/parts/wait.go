package parts

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Patience is how long an event may take that ought to come at once: two cores
// under the race detector are slow now and then.
const Patience = 15 * time.Second

// Within is the test's context with a bound on what ought to come at once.
func Within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Await waits for an event that ought to come at once.
func Await[T any](t testing.TB, what string, event <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-event:
	case <-time.After(Patience):
		t.Fatalf("%s: not within %v", what, Patience)
	}
	return v
}

// Elapse lets a bubble's time pass, and what it sets off happen.
func Elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
