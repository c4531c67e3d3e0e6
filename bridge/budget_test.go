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
		most := &peakPool{BufferPool: b.pool}
		b.pool = most
		go func() {
			buf, err := second.take(t.Context(), chunkBytes)
			if err != nil {
				t.Error(err)
			}
			took <- buf
		}()
		synctest.Wait()
		if len(took) != 0 || !b.pressed() {
			t.Error("take did not wait for the memory that is held")
		}
		if most.peak != 0 {
			t.Errorf("while it waits it holds %d bytes, want none", most.peak)
		}
		first.settle()
		(<-took).Free()
		wantUsed(t, b, 0)
	})
}

// TestBudgetIsGrantedInTheOrderOfAsking holds that a large message isn't
// starved by smaller ones of its class.
func TestBudgetIsGrantedInTheOrderOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(400) // of which large ones may fill 300
		if err := b.reserve(t.Context(), large, 270); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var granted []int64
		for _, n := range []int64{240, 15, 90} { // the 15 would fit at once
			go func() {
				if err := b.reserve(t.Context(), large, n); err != nil {
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
		want("with 270 of 300 held")
		b.release(180)
		want("with 90 of 300 held")
		b.release(30)
		want("with 60 of 300 held", 240)
		b.release(45)
		want("with 255 of 300 held", 240, 15)
		b.release(15 + 240 + 15)
		want("with nothing held", 240, 15, 90)
		b.release(90)
		wantUsed(t, b, 0)
	})
}

func TestNewcomerWaitsBehindThoseWhoWait(t *testing.T) {
	for _, of := range []class{large} {
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(400)
			most := b.limitOf(of)
			_ = b.reserve(t.Context(), of, most/2) // there is room
			go func() { _ = b.reserve(t.Context(), of, most/2+10) }()
			synctest.Wait()
			second := make(chan error, 1)
			go func() { second <- b.reserve(t.Context(), of, 10) }() // would fit now
			synctest.Wait()
			if len(second) != 0 {
				t.Errorf("class %d: a newcomer was let in before the one that waited", of)
			}
			b.release(most / 2)
			if err := <-second; err != nil {
				t.Error(err)
			}
			b.release(most/2 + 20)
			wantUsed(t, b, 0)
		})
	}
}

// TestBulkLeavesRoomForSmallMessages: what is beyond a call's first 64 KiB
// fills three quarters, and those who wait for that stop no small message.
func TestBulkLeavesRoomForSmallMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1 << 20)
		bulk := &ledger{budget: b}
		var held []mem.Buffer
		for b.used.Load()+chunkBytes <= b.limitOf(large) {
			buf, err := bulk.take(t.Context(), chunkBytes)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, buf)
		}
		waiter := make(chan error, 1)
		go func() {
			buf, err := bulk.take(t.Context(), chunkBytes)
			if err == nil {
				held = append(held, buf)
			}
			waiter <- err
		}()
		synctest.Wait()
		if len(waiter) != 0 || !b.pressed() {
			t.Errorf("with %d of %d bytes held, bulk doesn't wait", b.used.Load(), b.limit)
		}
		other := &ledger{budget: b}
		for range 2 { // its first 64 KiB
			buf, err := other.take(t.Context(), chunkBytes)
			if err != nil {
				t.Errorf("a small message: %v", err)
				continue
			}
			buf.Free()
		}
		if len(waiter) != 0 {
			t.Error("bulk was let in beside")
		}
		other.settle()
		held[0].Free()
		if err := <-waiter; err != nil {
			t.Errorf("bulk, with room for it: %v", err)
		}
		for _, buf := range held[1:] {
			buf.Free()
		}
		wantUsed(t, b, 0)
	})
}

func TestOneMessageLargerThanTheBudgetGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		_ = b.reserve(t.Context(), small, 1) // there is room
		in := make(chan error, 1)
		go func() { in <- b.reserve(t.Context(), small, 500) }()
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
		if l.budget.pressed() {
			t.Error("somebody is said to wait, and nobody does")
		}
		l.Put(held)
		wantUsed(t, l.budget, 0)
	})
}

func TestCancelledWaiterMakesWayForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		_ = b.reserve(t.Context(), small, 50) // there is room
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- b.reserve(ctx, small, 80) }()
		synctest.Wait()
		go func() { second <- b.reserve(t.Context(), small, 50) }()
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
				n := 1 + rnd.Int64N(limit/2)
				ctx, cancel := context.WithCancel(t.Context())
				if rnd.IntN(3) == 0 {
					go cancel() // at some moment or other
				}
				if err := b.reserve(ctx, class(rnd.IntN(int(classes))), n); err == nil {
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
	if b.pressed() || b.queues[small].Len() != 0 || b.queues[large].Len() != 0 {
		t.Errorf("waiters are left: %d and %d in the queues, %d counted", b.queues[small].Len(), b.queues[large].Len(), b.waiting.Load())
	}
}
