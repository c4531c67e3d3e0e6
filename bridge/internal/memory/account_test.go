package memory

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
	"github.com/culvert-grpc/culvert/internal/parts"
)

// roomFor is a claim with room for so many bytes, which are there.
func roomFor(t testing.TB, l *Entry, of Class, n int) *Claim {
	t.Helper()
	c := NewClaim(l)
	if err := c.Reserve(t.Context(), of, n); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMessageCountsUntilItsLastReferenceIsFreed(t *testing.T) {
	l := newEntry(1 << 20)
	c := roomFor(t, l, Small, 60<<10)
	first, second := c.Buffer(ChunkBytes), c.Buffer(28<<10)
	c.Done() // it is read
	wantUsed(t, l.account, 60<<10)
	first.Ref() // grpc-go queues it
	first.Free()
	second.Free()
	wantUsed(t, l.account, 60<<10)
	first.Free()
	wantUsed(t, l.account, 0)
}

func TestMessageBeingReadCounts(t *testing.T) {
	l := newEntry(1 << 20)
	c := roomFor(t, l, Small, 60<<10)
	c.Buffer(ChunkBytes).Free() // before the next is there
	wantUsed(t, l.account, 60<<10)
	if err := c.Reserve(t.Context(), Request, 100<<10); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, l.account, 160<<10)
	if got := l.Total(); got != 160<<10 {
		t.Errorf("the call holds %d, want %d", got, 160<<10)
	}
	c.Done()
	wantUsed(t, l.account, 0)
}

// TestSmallBufferIsNotPooled, so nobody frees it, and the message's end does
// not wait for that.
func TestSmallBufferIsNotPooled(t *testing.T) {
	l := newEntry(1 << 20)
	c := roomFor(t, l, Small, 1<<10)
	for _, n := range []int{0, 1, UnpooledBytes} {
		if got := c.Buffer(n).Len(); got != n {
			t.Errorf("a buffer of %d bytes has %d", n, got)
		}
	}
	c.Done()
	wantUsed(t, l.account, 0)
}

// TestBufferOfAnySizeGoesBackToItsPool: grpc-go leaves what is too small for
// its own pools to the garbage collector, and would never tell.
func TestBufferOfAnySizeGoesBackToItsPool(t *testing.T) {
	for _, n := range []int{UnpooledBytes + 1, 1 << 10, pooledBytes, ChunkBytes} {
		l := newEntry(1 << 20)
		c := roomFor(t, l, Small, n)
		b := c.Buffer(n)
		if got := b.Len(); got != n {
			t.Errorf("a buffer of %d bytes has %d", n, got)
		}
		c.Done()
		wantUsed(t, l.account, int64(n))
		b.Free()
		wantUsed(t, l.account, 0)
	}
}

func TestCallsEndSettlesWhatIsStillOut(t *testing.T) {
	b := New(1<<20, 0)
	first, second := b.NewEntry(), b.NewEntry()
	lost, late, kept := roomFor(t, first, Small, 100), roomFor(t, first, Request, 200), roomFor(t, second, Small, 400)
	_ = lost // grpc-go never frees what a cancelled stream had queued
	first.Add(Reply, 800)
	first.Settle()
	wantUsed(t, b, 400)
	late.Done() // and some it does, after the end
	first.Sub(Reply, 800)
	first.Settle()
	wantUsed(t, b, 400)
	kept.Done()
	wantUsed(t, b, 0)
	for of := range classes {
		if n := b.heldOf(of); n != 0 {
			t.Errorf("of class %d %d bytes are counted", of, n)
		}
	}
}

// TestSettlingRacesWithFreeing: each byte is given back once, by the first that
// does so.
func TestSettlingRacesWithFreeing(t *testing.T) {
	b := New(1<<30, 0)
	for range 200 {
		l := b.NewEntry()
		var buffers []mem.Buffer
		for range 8 {
			c := roomFor(t, l, Request, 4<<10)
			buffers = append(buffers, c.Buffer(4<<10))
			c.Done()
		}
		var freeing sync.WaitGroup
		for _, buf := range buffers {
			freeing.Go(buf.Free)
		}
		l.Settle()
		freeing.Wait()
	}
	wantUsed(t, b, 0)
}

// waits begins to reserve, and returns whether that is done and how.
func waits(ctx context.Context, b *Account, of Class, n int64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- b.reserve(ctx, of, n) }()
	synctest.Wait()
	return done
}

func TestSettlingLetsWaitersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(1000, 0)
		l := b.NewEntry()
		_ = roomFor(t, l, Small, 900) // lost
		waiter := waits(t.Context(), b, Small, 200)
		if len(waiter) != 0 || !b.Pressed() {
			t.Error("nobody waits for the memory that is held")
		}
		l.Settle()
		if err := <-waiter; err != nil {
			t.Error(err)
		}
		b.release(&b.unknown, Small, 200)
		wantUsed(t, b, 0)
	})
}

// TestBudgetIsGrantedInTheOrderOfAsking holds that a large message isn't
// starved by smaller ones of its class.
func TestBudgetIsGrantedInTheOrderOfAsking(t *testing.T) {
	for of := range Fixed {
		synctest.Test(t, func(t *testing.T) {
			b := New(800, 0) // large ones may fill 300 each way
			if of == Small {
				b.SetBounds(300, 0)
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
			b.release(&b.unknown, of, 180)
			want(90, false, false, false)
			b.release(&b.unknown, of, 30)
			want(60, true, false, false)
			b.release(&b.unknown, of, 45)
			want(15, true, true, false)
			b.release(&b.unknown, of, 15+240+15)
			want(0, true, true, true)
			b.release(&b.unknown, of, 90)
			wantUsed(t, b, 0)
		})
	}
}

func TestNewcomerWaitsBehindThoseWhoWait(t *testing.T) {
	for of := range Fixed {
		synctest.Test(t, func(t *testing.T) {
			b := New(800, 0)
			if of == Small {
				b.SetBounds(300, 0)
			}
			_ = b.reserve(t.Context(), of, 150) // there is room
			first := waits(t.Context(), b, of, 200)
			second := waits(t.Context(), b, of, 10) // would fit now
			if len(first) != 0 || len(second) != 0 {
				t.Errorf("class %d: a newcomer was let in before the one that waited", of)
			}
			b.release(&b.unknown, of, 150)
			if err := errors.Join(<-first, <-second); err != nil {
				t.Error(err)
			}
			b.release(&b.unknown, of, 210)
			wantUsed(t, b, 0)
		})
	}
}

// TestBulkLeavesRoom for small messages and for the other direction's, also
// while it waits.
func TestBulkLeavesRoom(t *testing.T) {
	for _, of := range []Class{Request, Reply} {
		synctest.Test(t, func(t *testing.T) {
			b := New(800, 0)
			if err := b.reserve(t.Context(), of, b.bulk()); err != nil {
				t.Fatal(err)
			}
			bulk := waits(t.Context(), b, of, 10)
			if len(bulk) != 0 {
				t.Errorf("class %d: with its share full, bulk is let in", of)
			}
			other := Request + Reply - of
			for _, free := range []Class{Small, other} {
				if err := <-waits(t.Context(), b, free, 100); err != nil {
					t.Errorf("class %d beside bulk of class %d: %v", free, of, err)
				}
			}
			if len(bulk) != 0 {
				t.Errorf("class %d: bulk was let in beside", of)
			}
			b.release(&b.unknown, of, b.bulk())
			if err := <-bulk; err != nil {
				t.Errorf("class %d: bulk, with room for it: %v", of, err)
			}
			b.release(&b.unknown, of, 10)
			b.release(&b.unknown, Small, 100)
			b.release(&b.unknown, other, 100)
			wantUsed(t, b, 0)
		})
	}
}

func TestOneMessageLargerThanItsShareGoesAlone(t *testing.T) {
	for _, of := range []Class{Request, Reply} {
		synctest.Test(t, func(t *testing.T) {
			b := New(100, 0)
			_ = b.reserve(t.Context(), of, 1) // there is room
			alone := waits(t.Context(), b, of, 500)
			if len(alone) != 0 {
				t.Errorf("class %d: 500 of 100 bytes were let in beside another", of)
			}
			b.release(&b.unknown, of, 1)
			if err := <-alone; err != nil {
				t.Errorf("class %d: 500 of 100 bytes alone: %v, want them let in", of, err)
			}
			if next := waits(t.Context(), b, of, 1); len(next) != 0 {
				t.Errorf("class %d: another was let in beside 500 of 100 bytes", of)
			} else {
				b.release(&b.unknown, of, 500)
				if err := <-next; err != nil {
					t.Error(err)
				}
			}
			b.release(&b.unknown, of, 1)
			wantUsed(t, b, 0)
		})
	}
}

func TestBudgetsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(100, 0)
		b.add(&b.unknown, Small, 100)
		for of := range Fixed {
			_ = b.reserve(t.Context(), Request, 10) // one is always let in
			_ = b.reserve(t.Context(), Reply, 10)
			start := time.Now()
			err := b.reserve(t.Context(), of, 50)
			if got := time.Since(start); got != Patience {
				t.Errorf("class %d gave up after %v, want %v", of, got, Patience)
			}
			if reasonOf(err) != report.ReasonLimitExceeded || !strings.Contains(err.Error(), report.KeyBufferedBytes) {
				t.Errorf("class %d gave up with %v, want %v that names %s", of, err, report.ReasonLimitExceeded, report.KeyBufferedBytes)
			}
			if b.Pressed() {
				t.Error("somebody is said to wait, and nobody does")
			}
			b.release(&b.unknown, Request, b.by[Request].Load())
			b.release(&b.unknown, Reply, b.by[Reply].Load())
		}
		wantUsed(t, b, 100)
	})
}

func TestCancelledWaiterMakesWayForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(100, 0)
		_ = b.reserve(t.Context(), Small, 50) // there is room
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := waits(ctx, b, Small, 80), waits(t.Context(), b, Small, 50)
		cause := errors.New("the call has other troubles")
		cancel(cause)
		if err := <-first; !errors.Is(err, cause) {
			t.Errorf("the cancelled one returned %v, want the cause, %v", err, cause)
		}
		if err := <-second; err != nil {
			t.Errorf("the one behind it: %v, want it let in", err)
		}
		wantUsed(t, b, 100)
		b.release(&b.unknown, Small, 100)
		wantUsed(t, b, 0)
	})
}

// TestBudgetUnderLoad: large messages never exceed their share, and all bytes come
// back, even of calls that give up.
func TestBudgetUnderLoad(t *testing.T) {
	const limit, workers, rounds = 800, 16, 300
	b := New(limit, 0)
	var held, most [classes]atomic.Int64
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				of, n := Class(rnd.IntN(int(classes))), 1+rnd.Int64N(b.bulk())
				ctx, cancel := context.WithCancel(t.Context())
				if rnd.IntN(3) == 0 {
					go cancel() // at some moment or other
				}
				if err := b.reserve(ctx, of, n); err == nil {
					now := held[of].Add(n)
					for old := most[of].Load(); now > old && !most[of].CompareAndSwap(old, now); old = most[of].Load() {
					}
					held[of].Add(-n)
					b.release(&b.unknown, of, n)
				}
				cancel()
			}
		})
	}
	working.Wait()
	wantUsed(t, b, 0)
	for _, of := range []Class{Request, Reply} {
		if got := most[of].Load(); got > b.bulk() || got == 0 {
			t.Errorf("at most %d bytes of class %d were granted at once, want up to %d", got, of, b.bulk())
		}
	}
	for of := range classes {
		if b.waiters[of].fair.Len() != 0 || b.queue[of].Load() != 0 || b.heldOf(of) != 0 {
			t.Errorf("class %d: %d wait, %d are counted to wait, %d bytes are held", of, b.waiters[of].fair.Len(), b.queue[of].Load(), b.heldOf(of))
		}
	}
}

// TestRepliesThatGrewOutOfGzip can't be withheld, so they are held while they
// wait, and only a few may.
func TestRepliesThatGrewOutOfGzip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(8<<20, 0)
		first := b.NewEntry()
		if err := first.Expanded(t.Context(), 100<<20); err != nil {
			t.Errorf("alone: %v, want it let through", err)
		}
		var waiting sync.WaitGroup
		for range maxExpanded {
			waiting.Go(func() {
				l := b.NewEntry()
				if err := l.Expanded(t.Context(), 1<<20); err != nil {
					t.Errorf("one that waits: %v, want it let through", err)
				}
				l.Settle()
			})
		}
		synctest.Wait()
		if err := b.NewEntry().Expanded(t.Context(), 1<<20); reasonOf(err) != report.ReasonLimitExceeded {
			t.Errorf("one too many: %v, want %s", err, report.ReasonLimitExceeded)
		}
		first.Settle()
		waiting.Wait()
		wantUsed(t, b, 0)
	})
}

var wantUsed = parts.WantUsed // by a short name

func newEntry(limit int64) *Entry { return New(limit, 0).NewEntry() }

// reserve waits for room for nobody in particular.
func (a *Account) reserve(ctx context.Context, of Class, n int64) error {
	if of == Small && a.take(&a.unknown, n) {
		return nil
	}
	return a.await(ctx, &a.unknown, of, n, Patience, new(time.Time))
}

// heldOf is what is held of a class.
func (a *Account) heldOf(of Class) int64 {
	switch of {
	case Small:
		return a.used.Load() - a.by[Request].Load() - a.by[Reply].Load()
	case Fixed:
		return a.fixed.Load()
	default:
		return a.by[of].Load()
	}
}

func reasonOf(err error) report.Reason {
	var f *report.Fault
	if errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

// TestExpandedRepliesMindTheirOwn: replies that wait for a window keep no expanded reply
// out for which there is room.
func TestExpandedRepliesMindTheirOwn(t *testing.T) {
	a := New(1600, 0) // 600 for large replies
	e := a.NewEntry()
	for range 2 * maxExpanded {
		w, atOnce := a.Ask(nil, Reply, 10, func() {})
		if !atOnce {
			t.Fatal("there is no room")
		}
		defer a.Drop(w)
	}
	a.expanding.Store(maxExpanded) // as many are being reserved
	if err := e.Expanded(t.Context(), 100); err != nil {
		t.Errorf("with room for it an expanded reply ends: %v", err)
	}
	if got := a.expanding.Load(); got != maxExpanded {
		t.Errorf("%d are counted as being reserved, want %d", got, maxExpanded)
	}
	e.Settle()
}

// TestCountedAhead: the account has never less than is held, and little more, whatever
// messages come and go at one time; at the end it has nothing.
func TestCountedAhead(t *testing.T) {
	a := New(aheadFrom, 0)
	var one Address
	for _, end := range []func(*Entry){(*Entry).Trim, (*Entry).Settle} {
		e := entryOf(a, &one)
		var all sync.WaitGroup
		for part := range 4 {
			all.Go(func() {
				for n := range 5000 {
					size := n * (part + 1) % 5000
					if part%2 == 0 {
						e.Add(Small, size)
					} else if err := e.reserve(t.Context(), Small, size); err != nil {
						t.Error(err)
					}
					if n%100 == 0 {
						e.Trim()
					}
					if used := a.Used(); used < 0 {
						t.Errorf("%d bytes are counted", used)
					}
					e.Sub(Small, size)
				}
			})
		}
		all.Wait()
		e.Add(Small, 5000)
		if used, most := a.Used(), int64(5000+2*maxAhead); used < 5000 || used > most || e.Messages() != 5000 {
			t.Errorf("of 5000 bytes the entry has %d and the account %d, want at most %d", e.Messages(), used, most)
		}
		e.Sub(Small, 5000)
		end(e)
		wantUsed(t, a, 0)
		if got := one.all(); got != 0 {
			t.Errorf("the address has %d bytes", got)
		}
		e.Settle()
	}
}

// TestCountedAheadRacesWithTheEnd: nothing stays counted of what comes and goes while the
// entry is settled.
func TestCountedAheadRacesWithTheEnd(t *testing.T) {
	a := New(aheadFrom, 0)
	for range 500 {
		e := a.NewEntry()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for n := range 20 {
					e.Add(Small, 300*n)
					_ = e.reserve(t.Context(), Small, 500) // there is room
					e.Sub(Small, 300*n+500)
				}
			})
		}
		all.Go(e.Settle)
		all.Wait()
	}
	wantUsed(t, a, 0)
}

// TestBuffersCount: the buffers of an entry count with it while they are out, by what they
// take and not by what they hold.
func TestBuffersCount(t *testing.T) {
	a := New(1<<20, 0)
	e := a.NewEntry()
	pool := e.Buffers()
	first, second := pool.Get(10<<10), pool.Get(17<<10)
	if got, want := e.Messages(), int64(cap(*first)+cap(*second)); got != want || want < 27<<10 {
		t.Errorf("%d bytes are counted for two buffers, want %d", got, want)
	}
	pool.Put(first)
	if got, want := e.Messages(), int64(cap(*second)); got != want {
		t.Errorf("%d bytes are counted for one buffer, want %d", got, want)
	}
	e.Settle()
	pool.Put(second)
	pool.Put(pool.Get(10 << 10))
	if got := a.Used(); got != 0 {
		t.Errorf("%d bytes are counted after the end, want 0", got)
	}
}
