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

	"github.com/culvert-grpc/culvert/bridge/report"
)

// roomFor is a claim with room for so many bytes, which are there.
func roomFor(t testing.TB, l *ledger, of class, n int) *claim {
	t.Helper()
	c := newClaim(l)
	if err := c.reserve(t.Context(), of, n); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMessageCountsUntilItsLastReferenceIsFreed(t *testing.T) {
	l := newLedger(1 << 20)
	c := roomFor(t, l, small, 60<<10)
	first, second := c.buffer(chunkBytes), c.buffer(28<<10)
	c.done() // it is read
	wantUsed(t, l.budget, 60<<10)
	first.Ref() // grpc-go queues it
	first.Free()
	second.Free()
	wantUsed(t, l.budget, 60<<10)
	first.Free()
	wantUsed(t, l.budget, 0)
}

func TestMessageBeingReadCounts(t *testing.T) {
	l := newLedger(1 << 20)
	c := roomFor(t, l, small, 60<<10)
	c.buffer(chunkBytes).Free() // before the next is there
	wantUsed(t, l.budget, 60<<10)
	if err := c.reserve(t.Context(), request, 100<<10); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, l.budget, 160<<10)
	if got := l.total(); got != 160<<10 {
		t.Errorf("the call holds %d, want %d", got, 160<<10)
	}
	c.done()
	wantUsed(t, l.budget, 0)
}

// TestSmallBufferIsNotPooled, so nobody frees it, and the message's end does
// not wait for that.
func TestSmallBufferIsNotPooled(t *testing.T) {
	l := newLedger(1 << 20)
	c := roomFor(t, l, small, 1<<10)
	for _, n := range []int{0, 1, unpooledBytes} {
		if got := c.buffer(n).Len(); got != n {
			t.Errorf("a buffer of %d bytes has %d", n, got)
		}
	}
	c.done()
	wantUsed(t, l.budget, 0)
}

// TestBufferOfAnySizeGoesBackToItsPool: grpc-go leaves what is too small for
// its own pools to the garbage collector, and would never tell.
func TestBufferOfAnySizeGoesBackToItsPool(t *testing.T) {
	for _, n := range []int{unpooledBytes + 1, 1 << 10, pooledBytes, chunkBytes} {
		l := newLedger(1 << 20)
		c := roomFor(t, l, small, n)
		b := c.buffer(n)
		if got := b.Len(); got != n {
			t.Errorf("a buffer of %d bytes has %d", n, got)
		}
		c.done()
		wantUsed(t, l.budget, int64(n))
		b.Free()
		wantUsed(t, l.budget, 0)
	}
}

func TestCallsEndSettlesWhatIsStillOut(t *testing.T) {
	b := newBudget(1 << 20)
	first, second := &ledger{budget: b}, &ledger{budget: b}
	lost, late, kept := roomFor(t, first, small, 100), roomFor(t, first, request, 200), roomFor(t, second, small, 400)
	_ = lost // grpc-go never frees what a cancelled stream had queued
	first.add(reply, 800)
	first.settle()
	wantUsed(t, b, 400)
	late.done() // and some it does, after the end
	first.sub(reply, 800)
	first.settle()
	wantUsed(t, b, 400)
	kept.done()
	wantUsed(t, b, 0)
	for of := range classes {
		if n := b.by[of].Load(); n != 0 {
			t.Errorf("of class %d %d bytes are counted", of, n)
		}
	}
}

// TestSettlingRacesWithFreeing holds that each byte is given back once, by
// whoever comes first.
func TestSettlingRacesWithFreeing(t *testing.T) {
	b := newBudget(1 << 30)
	for range 200 {
		l := &ledger{budget: b}
		var buffers []mem.Buffer
		for range 8 {
			c := roomFor(t, l, request, 4<<10)
			buffers = append(buffers, c.buffer(4<<10))
			c.done()
		}
		var freeing sync.WaitGroup
		for _, buf := range buffers {
			freeing.Go(buf.Free)
		}
		l.settle()
		freeing.Wait()
	}
	wantUsed(t, b, 0)
}

// waits begins to reserve, and returns whether that is done and how.
func waits(ctx context.Context, b *budget, of class, n int64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- b.reserve(ctx, of, n) }()
	synctest.Wait()
	return done
}

func TestSettlingLetsWaitersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		l := &ledger{budget: b}
		_ = roomFor(t, l, small, 900) // lost
		waiter := waits(t.Context(), b, small, 200)
		if len(waiter) != 0 || !b.pressed() {
			t.Error("nobody waits for the memory that is held")
		}
		l.settle()
		if err := <-waiter; err != nil {
			t.Error(err)
		}
		b.release(small, 200)
		wantUsed(t, b, 0)
	})
}

// TestBudgetIsGrantedInTheOrderOfAsking holds that a large message isn't
// starved by smaller ones of its class.
func TestBudgetIsGrantedInTheOrderOfAsking(t *testing.T) {
	for of := range classes {
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(800) // large ones may fill 300 each way
			if of == small {
				b.limit = 300
			}
			if err := b.reserve(t.Context(), of, 270); err != nil {
				t.Fatal(err)
			}
			big, little, middle := waits(t.Context(), b, of, 240), waits(t.Context(), b, of, 15), waits(t.Context(), b, of, 90)
			want := func(held int, bigIn, littleIn, middleIn bool) {
				t.Helper()
				synctest.Wait()
				if got := []bool{len(big) > 0, len(little) > 0, len(middle) > 0}; !slices.Equal(got, []bool{bigIn, littleIn, middleIn}) {
					t.Errorf("class %d: with %d of 300 held 240, 15 and 90 are in: %v, want %v %v %v", of, held, got, bigIn, littleIn, middleIn)
				}
			}
			want(270, false, false, false) // the 15 would fit
			b.release(of, 180)
			want(90, false, false, false)
			b.release(of, 30)
			want(60, true, false, false)
			b.release(of, 45)
			want(15, true, true, false)
			b.release(of, 15+240+15)
			want(0, true, true, true)
			b.release(of, 90)
			wantUsed(t, b, 0)
		})
	}
}

func TestNewcomerWaitsBehindThoseWhoWait(t *testing.T) {
	for of := range classes {
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(800)
			if of == small {
				b.limit = 300
			}
			_ = b.reserve(t.Context(), of, 150) // there is room
			first := waits(t.Context(), b, of, 200)
			second := waits(t.Context(), b, of, 10) // would fit now
			if len(first) != 0 || len(second) != 0 {
				t.Errorf("class %d: a newcomer was let in before the one that waited", of)
			}
			b.release(of, 150)
			if err := errors.Join(<-first, <-second); err != nil {
				t.Error(err)
			}
			b.release(of, 210)
			wantUsed(t, b, 0)
		})
	}
}

// TestBulkLeavesRoom for small messages and for the other direction's, also
// while it waits.
func TestBulkLeavesRoom(t *testing.T) {
	for _, of := range []class{request, reply} {
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(800)
			if err := b.reserve(t.Context(), of, b.share()); err != nil {
				t.Fatal(err)
			}
			bulk := waits(t.Context(), b, of, 10)
			if len(bulk) != 0 {
				t.Errorf("class %d: with its share full, bulk is let in", of)
			}
			other := request + reply - of
			for _, free := range []class{small, other} {
				if err := <-waits(t.Context(), b, free, 100); err != nil {
					t.Errorf("class %d beside bulk of class %d: %v", free, of, err)
				}
			}
			if len(bulk) != 0 {
				t.Errorf("class %d: bulk was let in beside", of)
			}
			b.release(of, b.share())
			if err := <-bulk; err != nil {
				t.Errorf("class %d: bulk, with room for it: %v", of, err)
			}
			b.release(of, 10)
			b.release(small, 100)
			b.release(other, 100)
			wantUsed(t, b, 0)
		})
	}
}

func TestOneMessageLargerThanItsShareGoesAlone(t *testing.T) {
	for _, of := range []class{request, reply} {
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(100)
			_ = b.reserve(t.Context(), of, 1) // there is room
			alone := waits(t.Context(), b, of, 500)
			if len(alone) != 0 {
				t.Errorf("class %d: 500 of 100 bytes were let in beside another", of)
			}
			b.release(of, 1)
			if err := <-alone; err != nil {
				t.Errorf("class %d: 500 of 100 bytes alone: %v, want them let in", of, err)
			}
			if next := waits(t.Context(), b, of, 1); len(next) != 0 {
				t.Errorf("class %d: another was let in beside 500 of 100 bytes", of)
			} else {
				b.release(of, 500)
				if err := <-next; err != nil {
					t.Error(err)
				}
			}
			b.release(of, 1)
			wantUsed(t, b, 0)
		})
	}
}

func TestBudgetsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		b.add(small, 100)
		for of := range classes {
			_ = b.reserve(t.Context(), request, 10) // one is always let in
			_ = b.reserve(t.Context(), reply, 10)
			start := time.Now()
			err := b.reserve(t.Context(), of, 50)
			if got := time.Since(start); got != budgetPatience {
				t.Errorf("class %d gave up after %v, want %v", of, got, budgetPatience)
			}
			if reasonOf(err) != report.ReasonLimitExceeded || !strings.Contains(err.Error(), report.KeyBufferedBytes) {
				t.Errorf("class %d gave up with %v, want %v that names %s", of, err, report.ReasonLimitExceeded, report.KeyBufferedBytes)
			}
			if b.pressed() {
				t.Error("somebody is said to wait, and nobody does")
			}
			b.release(request, b.by[request].Load())
			b.release(reply, b.by[reply].Load())
		}
		wantUsed(t, b, 100)
	})
}

func TestCancelledWaiterMakesWayForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		_ = b.reserve(t.Context(), small, 50) // there is room
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := waits(ctx, b, small, 80), waits(t.Context(), b, small, 50)
		cause := errors.New("the call has other troubles")
		cancel(cause)
		if err := <-first; !errors.Is(err, cause) {
			t.Errorf("the cancelled one returned %v, want the cause, %v", err, cause)
		}
		if err := <-second; err != nil {
			t.Errorf("the one behind it: %v, want it let in", err)
		}
		wantUsed(t, b, 100)
		b.release(small, 100)
		wantUsed(t, b, 0)
	})
}

// TestBudgetUnderLoad holds the sums: large messages never go over their
// share, and all comes back, whoever gives up.
func TestBudgetUnderLoad(t *testing.T) {
	const limit, workers, rounds = 800, 16, 300
	b := newBudget(limit)
	var held, most [classes]atomic.Int64
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				of, n := class(rnd.IntN(int(classes))), 1+rnd.Int64N(b.share())
				ctx, cancel := context.WithCancel(t.Context())
				if rnd.IntN(3) == 0 {
					go cancel() // at some moment or other
				}
				if err := b.reserve(ctx, of, n); err == nil {
					now := held[of].Add(n)
					for old := most[of].Load(); now > old && !most[of].CompareAndSwap(old, now); old = most[of].Load() {
					}
					held[of].Add(-n)
					b.release(of, n)
				}
				cancel()
			}
		})
	}
	working.Wait()
	wantUsed(t, b, 0)
	for _, of := range []class{request, reply} {
		if got := most[of].Load(); got > b.share() || got == 0 {
			t.Errorf("at most %d bytes of class %d were granted at once, want up to %d", got, of, b.share())
		}
	}
	for of := range classes {
		if b.queues[of].Len() != 0 || b.waiting[of].Load() != 0 || b.by[of].Load() != 0 {
			t.Errorf("class %d: %d wait, %d are counted to wait, %d bytes are held", of, b.queues[of].Len(), b.waiting[of].Load(), b.by[of].Load())
		}
	}
}

// TestRepliesThatGrewOutOfGzip can't be withheld, so they are held while they
// wait, and only a few may.
func TestRepliesThatGrewOutOfGzip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(8 << 20)
		first := &ledger{budget: b}
		if err := first.expanded(t.Context(), 100<<20); err != nil {
			t.Errorf("alone: %v, want it let through", err)
		}
		var waiting sync.WaitGroup
		for range maxExpanded {
			waiting.Go(func() {
				l := &ledger{budget: b}
				if err := l.expanded(t.Context(), 1<<20); err != nil {
					t.Errorf("one that waits: %v, want it let through", err)
				}
				l.settle()
			})
		}
		synctest.Wait()
		if err := (&ledger{budget: b}).expanded(t.Context(), 1<<20); reasonOf(err) != report.ReasonLimitExceeded {
			t.Errorf("one too many: %v, want %s", err, report.ReasonLimitExceeded)
		}
		first.settle()
		waiting.Wait()
		wantUsed(t, b, 0)
	})
}
