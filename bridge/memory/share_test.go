package memory

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// entryOf is an entry of an address.
func entryOf(a *Account, o *Address) *Entry {
	e := a.NewEntry()
	e.Own(o)
	return e
}

// asks begins to reserve for an entry.
func asks(t *testing.T, e *Entry, of Class, n int) <-chan error {
	done := make(chan error, 1)
	go func() { done <- e.reserve(t.Context(), of, n) }()
	synctest.Wait()
	return done
}

// TestThoseWithinTheirShareGoFirst: an address that holds more than its share waits
// behind others, also if it asked before them.
func TestThoseWithinTheirShareGoFirst(t *testing.T) {
	for of := range Fixed {
		synctest.Test(t, func(t *testing.T) {
			a := New(800, 0)
			a.SetSharers(2) // 300 each
			var much, little Address
			rich, poor := entryOf(a, &much), entryOf(a, &little)
			rich.Add(Small, 500)
			rich.Add(of, 300)
			first := asks(t, rich, of, 100)
			second := asks(t, poor, of, 100)
			rich.Sub(of, 150)
			synctest.Wait()
			if len(first) != 0 || len(second) != 1 {
				t.Errorf("class %d: the address with more than its share has room: %v, the other: %v, want the other alone", of, len(first), len(second))
			}
			rich.Sub(of, 150)
			synctest.Wait()
			if len(first) != 1 {
				t.Errorf("class %d: with room for both the first still waits", of)
			}
			rich.Settle()
			poor.Settle()
			wantUsed(t, a, 0)
			if held := much.Held() + little.Held(); held != 0 {
				t.Errorf("class %d: at the end the addresses hold %d bytes", of, held)
			}
		})
	}
}

// TestWantsSayWhoseEndWouldHelp: what waits for room in the share of large messages
// isn't helped by the end of small ones.
func TestWantsSayWhoseEndWouldHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(800, 0)
		var one Address
		e := entryOf(a, &one)
		pressed := 0
		a.OnPressed = func() { pressed++ }
		e.Add(Reply, 300)
		began := time.Now()
		_ = asks(t, e, Reply, 10)
		if got, want := a.Wants(), (Want{Fair: 10, Oldest: began}); got[Reply] != want || got[Small] != (Want{}) {
			t.Errorf("with large replies at their bound the wants are %+v, want %+v of large replies", got, want)
		}
		e.Add(Small, 600) // above the bound, without asking
		e.Add(Request, 10)
		_ = asks(t, e, Request, 7)
		_ = asks(t, e, Small, 5)
		if got := a.Wants(); got[Request].Greedy != 0 || got[Small].Greedy != 12 {
			t.Errorf("with all room taken the wants are %+v, want 12 bytes of any message", got)
		}
		if pressed != 1 {
			t.Errorf("that somebody waits was told %d times, want once", pressed)
		}
		e.Settle()
		synctest.Wait()
		e.Settle()
	})
}

// TestNewcomers: there is room for a call that begins, or it waits a little for what
// others give up, or it is refused at once: then its address has its share.
func TestNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(400, 1000) // 250 are for messages
		a.SetSharers(2)
		var much, little, third Address
		crowd := entryOf(a, &much)
		if !crowd.Begin(t.Context(), 750) {
			t.Fatal("the first has no room")
		}
		start := time.Now()
		if entryOf(a, &much).Begin(t.Context(), 1) || time.Since(start) > 0 {
			t.Errorf("a call of the address that has all was let in, or waited %v", time.Since(start))
		}
		served := make(chan bool, 1)
		newcomer := entryOf(a, &little)
		go func() { served <- newcomer.Begin(t.Context(), 100) }()
		synctest.Wait()
		if fair := a.Wants()[Fixed].Fair; fair != 100 {
			t.Errorf("for the newcomer %d bytes are wanted, want 100", fair)
		}
		crowd.Settle()
		if !<-served {
			t.Error("the newcomer was refused though another ended")
		}
		if got := a.Held(); got != 100 {
			t.Errorf("%d bytes are held, want 100", got)
		}
		again := entryOf(a, &much)
		again.Begin(t.Context(), 650)
		start = time.Now()
		if entryOf(a, &third).Begin(t.Context(), 100) || time.Since(start) != newcomerPatience {
			t.Errorf("a newcomer for whom nobody ended was let in, or not refused after %v but %v", newcomerPatience, time.Since(start))
		}
		newcomer.Settle()
		again.Settle()
		if got := a.Held(); got != 0 {
			t.Errorf("at the end %d bytes are held", got)
		}
	})
}

// TestCallsLeaveRoomForMessages holds that however many calls there are, each
// conversation goes on.
func TestCallsLeaveRoomForMessages(t *testing.T) {
	a := New(1<<20, 1000)
	var one Address
	crowd := entryOf(a, &one)
	crowd.Begin(t.Context(), 750)
	if crowd.Begin(t.Context(), 1) {
		t.Error("calls take what is left for messages")
	}
	if err := crowd.reserve(t.Context(), Small, 250); err != nil {
		t.Errorf("a message beside as many calls as there may be: %v", err)
	}
	if err := crowd.account.fits(Small, 1); err {
		t.Error("messages and calls together go over the bound of all")
	}
	crowd.Settle()
}

func TestFullSaysTheKey(t *testing.T) {
	if got := reasonOf(full()); got != report.ReasonLimitExceeded {
		t.Errorf("the reason is %s", got)
	}
}
