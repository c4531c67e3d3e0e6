package bridge

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"
)

// newLedger is the account of one call with a budget of its own.
func newLedger(limit int64) *ledger { return &ledger{budget: newBudget(limit)} }

func wantUsed(t testing.TB, b *budget, want int64) {
	t.Helper()
	if got := b.used.Load(); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
}

func TestBufferCountsUntilItsLastReferenceIsFreed(t *testing.T) {
	l := newLedger(1 << 20)
	buf, err := l.take(t.Context(), 20<<10)
	if err != nil {
		t.Fatal(err)
	}
	wantUsed(t, l.budget, chunkBytes) // what the pool really gave
	buf.Ref()
	buf.Free()
	wantUsed(t, l.budget, chunkBytes)
	buf.Free()
	wantUsed(t, l.budget, 0)
}

func TestBufferBelowThePoolsThresholdIsNotCounted(t *testing.T) {
	l := newLedger(1) // a counted one would have to wait
	for _, n := range []int{0, 1, 1 << 10} {
		buf, err := l.take(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if buf.Len() != n {
			t.Errorf("take(%d) has %d bytes", n, buf.Len())
		}
		wantUsed(t, l.budget, 0)
		buf.Free()
	}
	wantUsed(t, l.budget, 0)
}

func TestPooledBufferCountsFromGetToPut(t *testing.T) {
	l := newLedger(1 << 10)
	buf := l.Get(100 << 10) // more than the limit: grpc-go doesn't wait
	wantUsed(t, l.budget, 256<<10)
	*buf = (*buf)[:10] // as grpc-go hands back a prefix
	l.Put(buf)
	wantUsed(t, l.budget, 0)
}

func TestCallsEndSettlesWhatIsStillOut(t *testing.T) {
	b := newBudget(1 << 20)
	first, second := &ledger{budget: b}, &ledger{budget: b}
	lost := first.Get(chunkBytes)
	late := first.Get(chunkBytes)
	kept := second.Get(chunkBytes)
	_ = lost // grpc-go never puts back what a cancelled stream had queued
	first.settle()
	wantUsed(t, b, chunkBytes)
	first.Put(late) // and some it does, after the end
	wantUsed(t, b, chunkBytes)
	first.settle()
	wantUsed(t, b, chunkBytes)
	second.Put(kept)
	wantUsed(t, b, 0)
}

// TestSettlingRacesWithPutting holds that each byte is given back once, by
// whoever comes first.
func TestSettlingRacesWithPutting(t *testing.T) {
	b := newBudget(1 << 30)
	for range 200 {
		l := &ledger{budget: b}
		var bufs []*[]byte
		for range 8 {
			bufs = append(bufs, l.Get(4<<10))
		}
		var putting sync.WaitGroup
		for _, buf := range bufs {
			putting.Go(func() { l.Put(buf) })
		}
		l.settle()
		putting.Wait()
	}
	wantUsed(t, b, 0)
}

func TestSettlingLetsWaitersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(chunkBytes)
		first, second := &ledger{budget: b}, &ledger{budget: b}
		_ = first.Get(chunkBytes) // lost
		took := make(chan mem.Buffer, 1)
		go func() {
			buf, err := second.take(t.Context(), chunkBytes)
			if err != nil {
				t.Error(err)
			}
			took <- buf
		}()
		synctest.Wait()
		if len(took) != 0 {
			t.Error("take did not wait for the memory that is held")
		}
		first.settle()
		(<-took).Free()
		wantUsed(t, b, 0)
	})
}

// TestBudgetIsGrantedInTheOrderOfAsking holds that a large message isn't
// starved by small ones.
func TestBudgetIsGrantedInTheOrderOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		if err := b.reserve(t.Context(), 90, 0); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var granted []int64
		for _, n := range []int64{80, 5, 30} { // the 5 would fit at once
			go func() {
				if err := b.reserve(t.Context(), n, 0); err != nil {
					t.Error(err)
				}
				mu.Lock()
				granted = append(granted, n)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		want := func(what string, want ...int64) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(granted) // of those let in at once either may be first here
			slices.Sort(want)
			if !slices.Equal(granted, want) {
				t.Errorf("%s %v are in, want %v", what, granted, want)
			}
		}
		want("with 90 of 100 held")
		b.release(60)
		want("with 30 of 100 held")
		b.release(10)
		want("with 20 of 100 held", 80)
		b.release(15)
		want("with 85 of 100 held", 80, 5)
		b.release(5 + 80 + 5)
		want("with nothing held", 80, 5, 30)
		b.release(30)
		wantUsed(t, b, 0)
	})
}

func TestNewcomerWaitsBehindThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		_ = b.reserve(t.Context(), 50, 0) // there is room
		go func() { _ = b.reserve(t.Context(), 60, 0) }()
		synctest.Wait()
		second := make(chan error, 1)
		go func() { second <- b.reserve(t.Context(), 10, 0) }() // would fit now
		synctest.Wait()
		if len(second) != 0 {
			t.Error("a newcomer was let in before the one that waited")
		}
		b.release(50)
		if err := <-second; err != nil {
			t.Error(err)
		}
		b.release(70)
		wantUsed(t, b, 0)
	})
}

func TestOneMessageLargerThanTheBudgetGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		_ = b.reserve(t.Context(), 1, 0) // there is room
		in := make(chan error, 1)
		go func() { in <- b.reserve(t.Context(), 500, 0) }()
		synctest.Wait()
		if len(in) != 0 {
			t.Error("500 of 100 bytes were let in beside another")
		}
		b.release(1)
		if err := <-in; err != nil {
			t.Errorf("500 of 100 bytes alone: %v, want them let in", err)
		}
		wantUsed(t, b, 500)
		b.release(500)
		wantUsed(t, b, 0)
	})
}

func TestBudgetsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(chunkBytes)
		held := l.Get(chunkBytes)
		start := time.Now()
		_, err := l.take(t.Context(), chunkBytes)
		if got := time.Since(start); got != budgetPatience {
			t.Errorf("take gave up after %v, want %v", got, budgetPatience)
		}
		var f *fault
		if !errors.As(err, &f) || f.reason != ReasonLimitExceeded || !strings.Contains(f.text, keyBufferedBytes) {
			t.Errorf("take gave up with %v, want %v that names %s", err, ReasonLimitExceeded, keyBufferedBytes)
		}
		if l.budget.spent() {
			t.Error("somebody is said to wait, and nobody does")
		}
		l.Put(held)
		wantUsed(t, l.budget, 0)
	})
}

func TestRoomIsWaitedForAsLongAsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		b.used.Store(100)
		in := make(chan error, 1)
		go func() { in <- b.room(t.Context()) }()
		elapse(time.Hour)
		if len(in) != 0 || !b.spent() {
			t.Errorf("after an hour without room: returned %d times, spent %v; want to wait on", len(in), b.spent())
		}
		b.release(1)
		if err := <-in; err != nil {
			t.Errorf("with room for a byte: %v", err)
		}
		wantUsed(t, b, 99)
		if err := b.room(t.Context()); err != nil {
			t.Errorf("with room: %v", err)
		}
		wantUsed(t, b, 99)
	})
}

func TestCancelledWaiterMakesWayForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		_ = b.reserve(t.Context(), 50, 0) // there is room
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- b.reserve(ctx, 80, 0) }()
		synctest.Wait()
		go func() { second <- b.reserve(t.Context(), 50, 0) }()
		synctest.Wait()
		cause := errors.New("the call has other troubles")
		cancel(cause)
		if err := <-first; !errors.Is(err, cause) {
			t.Errorf("the cancelled one returned %v, want the cause, %v", err, cause)
		}
		if err := <-second; err != nil {
			t.Errorf("the one behind it: %v, want it let in", err)
		}
		wantUsed(t, b, 100)
		b.release(100)
		wantUsed(t, b, 0)
	})
}

// TestBudgetUnderLoad holds the two sums: what is granted at once never goes
// over the limit, and all comes back, whoever gives up.
func TestBudgetUnderLoad(t *testing.T) {
	const limit, workers, rounds = 1000, 16, 300
	b := newBudget(limit)
	var held, most atomic.Int64
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				n := 1 + rnd.Int64N(limit)
				ctx, cancel := context.WithCancel(t.Context())
				if rnd.IntN(3) == 0 {
					go cancel() // at some moment or other
				}
				if err := b.reserve(ctx, n, 0); err == nil {
					now := held.Add(n)
					for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
					}
					held.Add(-n)
					b.release(n)
				}
				cancel()
			}
		})
	}
	working.Wait()
	wantUsed(t, b, 0)
	if got := most.Load(); got > limit || got == 0 {
		t.Errorf("at most %d bytes were granted at once, want up to %d", got, limit)
	}
	if b.spent() || b.queue.Len() != 0 {
		t.Errorf("waiters are left: %d in the list, %d counted", b.queue.Len(), b.waiting.Load())
	}
}
