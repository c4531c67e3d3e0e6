package memory

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A conversion of a test ends when the test says so, or its context ends.
type conversion struct {
	end   context.CancelFunc
	began chan struct{}
	err   chan error
}

// converts begins a conversion for an address, and returns when it runs or waits.
func converts(t *testing.T, a *Account, o *Address, n int64) *conversion {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &conversion{cancel, make(chan struct{}), make(chan error, 1)}
	go func() {
		done, fits, err := entryOf(a, o).Convert(ctx, n, nil)
		if !fits {
			err = errors.New("it doesn't fit")
		}
		if err == nil {
			close(c.began)
			<-ctx.Done()
			done()
		}
		c.err <- err
	}()
	synctest.Wait()
	return c
}

func (c *conversion) runs() bool {
	synctest.Wait()
	select {
	case <-c.began:
		return true
	default:
		return false
	}
}

func (c *conversion) stop() {
	c.end()
	synctest.Wait()
}

// idle fails if something of the conversions is left.
func idle(t *testing.T, a *Account) {
	t.Helper()
	for i := range a.conversions {
		if c := &a.conversions[i]; c.used != 0 || c.running != 0 || len(c.waiting) != 0 || len(c.of) != 0 {
			t.Errorf("of class %d %d bytes, %d conversions, %d waiting ones and %d addresses are left", i, c.used, c.running, len(c.waiting), len(c.of))
		}
	}
}

// TestConversionsByTurns: an address with many conversions delays one of another address by
// those that run, and by none that waits.
func TestConversionsByTurns(t *testing.T) {
	for name, n := range map[string]int64{"large": 100 << 20, "middle": 40 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := New(256<<20, 0)
				var many, one Address
				running := []*conversion{}
				for range 50 {
					running = append(running, converts(t, a, &many, n))
				}
				victim := converts(t, a, &one, n)
				for before := 0; !victim.runs(); before++ {
					if before > runtime.GOMAXPROCS(0) {
						t.Fatal("the other address waits for conversions that hadn't begun")
					}
					at := slices.IndexFunc(running, (*conversion).runs)
					running[at].stop()
					running = slices.Delete(running, at, at+1)
				}
				victim.stop()
				second := converts(t, a, &one, n) // it has had less than the other still
				at := slices.IndexFunc(running, (*conversion).runs)
				if running[at].stop(); !second.runs() {
					t.Error("the second conversion of the other address waits for more than the next end")
				}
				for _, c := range append(running, second) {
					c.end()
				}
				synctest.Wait()
				idle(t, a)
			})
		})
	}
}

// TestSmallConversionsDontWaitForLargeOnes, of their own address either.
func TestSmallConversionsDontWaitForLargeOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(256<<20, 0)
		var many Address
		large := []*conversion{}
		for range 20 {
			large = append(large, converts(t, a, &many, 112<<20))
		}
		for range min(32, 4*runtime.GOMAXPROCS(0)) {
			if c := converts(t, a, &many, maxSmall); !c.runs() {
				t.Error("a small conversion waits")
			} else {
				defer c.end()
			}
		}
		if c := converts(t, a, &many, maxSmall); c.runs() {
			t.Error("small conversions have no bound")
		} else {
			c.end()
		}
		for _, c := range large {
			c.end()
		}
	})
}

// TestConversionsUseAllProcessors, and not more: one that runs beside them would slow them
// down.
func TestConversionsUseAllProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(256<<20, 0)
		var o Address
		all := []*conversion{}
		for range runtime.GOMAXPROCS(0) {
			all = append(all, converts(t, a, &o, 2<<20))
			if !all[len(all)-1].runs() {
				t.Error("a conversion waits though there is a processor")
			}
		}
		next := converts(t, a, &o, 2<<20)
		if next.runs() {
			t.Error("more large conversions run than there are processors")
		}
		var other Address
		if c := converts(t, a, &other, 2<<20); !c.runs() {
			t.Error("an address that converts nothing waits for a processor")
		} else {
			c.stop()
		}
		if next.runs() {
			t.Error("the end of another's extra conversion gave way to one too many")
		}
		if all[0].stop(); !next.runs() {
			t.Error("the next doesn't begin when one has ended")
		}
		for _, c := range append(all, next) {
			c.stop()
		}
		idle(t, a)
	})
}

// TestConversionsThatGiveUp leave nothing, and their address's next one isn't behind others
// for them.
func TestConversionsThatGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(256<<20, 0)
		var one, other Address
		first := converts(t, a, &one, 112<<20)
		gone := converts(t, a, &one, 112<<20)
		late := converts(t, a, &one, 112<<20)
		gone.stop()
		if err := <-gone.err; !errors.Is(err, context.Canceled) {
			t.Errorf("one whose call was cancelled ended with %v", err)
		}
		began := time.Now()
		var fault *report.Fault
		if err := <-late.err; !errors.As(err, &fault) || fault.Key != report.KeyBufferedBytes || time.Since(began) != Patience {
			t.Errorf("one without room ended with %v after %v, want %s after %v", err, time.Since(began), report.KeyBufferedBytes, Patience)
		}
		if mark := a.conversions[largeConversions].of[&one].mark; mark != 112<<20 {
			t.Errorf("the address's mark is %d, want that of one conversion", mark)
		}
		waiting := converts(t, a, &other, 112<<20)
		if first.stop(); !waiting.runs() {
			t.Error("another address waits for those that have given up")
		}
		waiting.stop()
		idle(t, a)
	})
}

// TestManyAddressesConvert: while one conversion runs, those of others leave little behind.
func TestManyAddressesConvert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(256<<20, 0)
		var o Address
		long := converts(t, a, &o, maxSmall)
		for range 2 * manyConverters {
			done, _, err := entryOf(a, &Address{}).Convert(t.Context(), 1000, nil)
			if err != nil {
				t.Fatal(err)
			}
			done()
		}
		if n := len(a.conversions[smallConversions].of); n > manyConverters+1 {
			t.Errorf("%d addresses are remembered, want %d at most", n, manyConverters+1)
		}
		long.stop()
		idle(t, a)
	})
}

// TestConversionsWithLessRoom: those that waited for the room there was still get their turn.
func TestConversionsWithLessRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(256<<20, 0)
		var o Address
		first, second := converts(t, a, &o, 112<<20), converts(t, a, &o, 112<<20)
		a.SetBounds(1<<20, 0)
		if first.stop(); !second.runs() {
			t.Error("a conversion waits for room that there will never be")
		}
		second.stop()
		if c := converts(t, a, &o, 112<<20); c.runs() {
			t.Error("one that needs more than all room runs")
		}
		idle(t, a)
	})
}

// A slowKeeper's client reads nothing until it is closed.
type slowKeeper chan struct{}

func (k slowKeeper) SendKept() { <-k }

// TestSlowClientsTakeNoTurn: a reply that was kept leaves before its successor waits for a turn, and
// holds none meanwhile.
func TestSlowClientsTakeNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(64<<20, 0)
		var o, other Address
		room, places := a.conversions[largeConversions].bounds()
		n := room / int64(places+1)
		var first []*conversion
		for range places {
			first = append(first, converts(t, a, &o, n))
		}
		slow := make(slowKeeper)
		var all sync.WaitGroup
		for range places {
			all.Go(func() {
				done, _, err := entryOf(a, &o).Convert(t.Context(), n, slow)
				if err != nil {
					t.Error(err)
					return
				}
				done()
			})
		}
		synctest.Wait()
		for _, c := range first {
			c.stop()
		}
		began := time.Now()
		done, _, err := entryOf(a, &other).Convert(t.Context(), room-n*int64(places)+1, nil)
		if err != nil || time.Since(began) > 0 {
			t.Fatalf("another address waits for %v, and gets %v", time.Since(began), err)
		}
		done()
		close(slow)
		all.Wait()
		idle(t, a)
	})
}
