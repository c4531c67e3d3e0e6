package quota

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
)

// TestTurns: an address has as many as there are processors, at least two, and takes none of
// another one's. One that gives up waiting takes none, and nothing is kept after the last turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns
		var one, other Address
		most := max(2, runtime.GOMAXPROCS(0))
		var dones []func()
		for range most {
			done, err := all.take(t.Context(), &one)
			if err != nil {
				t.Fatal(err)
			}
			dones = append(dones, done)
		}
		why := errors.New("the call has ended")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if _, err := all.take(ctx, &one); !errors.Is(err, why) {
			t.Errorf("a call that has ended: %v, want its cause", err)
		}
		done, err := all.take(t.Context(), &other)
		if err != nil {
			t.Fatal(err)
		}
		done()
		got := make(chan func())
		go func() {
			done, err := all.take(t.Context(), &one)
			if err != nil {
				t.Error(err)
			}
			got <- done
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Fatalf("an address has more than %d turns", most)
		default:
		}
		for _, done := range dones {
			done()
		}
		(<-got)()
		if len(all.of) != 0 {
			t.Errorf("%d addresses are kept", len(all.of))
		}
	})
}
