package memory

import (
	"fmt"
	"slices"
	"strings"
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
			a.setSharers(2) // 300 each
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
			if held := much.all() + little.all(); held != 0 {
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
		if got, first := a.wants(), (want{Fair: 10, Oldest: began}); got[Reply] != first || got[Small] != (want{}) {
			t.Errorf("with large replies at their bound the wants are %+v, want %+v of large replies", got, first)
		}
		e.Add(Small, 600) // above the bound, without asking
		e.Add(Request, 10)
		_ = asks(t, e, Request, 7)
		_ = asks(t, e, Small, 5)
		if got := a.wants(); got[Request].Greedy != 0 || got[Small].Greedy != 12 {
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
		a.setSharers(2)
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
		if fair := a.wants()[Fixed].Fair; fair != 100 {
			t.Errorf("for the newcomer %d bytes are wanted, want 100", fair)
		}
		if !newcomer.Waiting() {
			t.Error("the newcomer doesn't say that it waits")
		}
		crowd.Settle()
		if !<-served || newcomer.Waiting() {
			t.Errorf("the newcomer was refused though another ended, or says that it waits: %v", newcomer.Waiting())
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
	if crowd.account.fits(Small, 1) {
		t.Error("messages and calls together go over the bound of all")
	}
	crowd.Settle()
}

// TestLargeMessageStaysWithinTheBoundOfAll, also one that is the only one.
func TestLargeMessageStaysWithinTheBoundOfAll(t *testing.T) {
	a := New(400, 1000)
	var one Address
	calls := entryOf(a, &one)
	calls.Begin(t.Context(), 700)
	if a.fits(Reply, 301) {
		t.Error("a reply of 301 bytes beside calls of 700 is let in, with a bound of 1,000")
	}
	if !a.fits(Reply, 300) {
		t.Error("a reply for which there is room is not let in")
	}
	calls.Settle()
}

// wantRoomAfter ends one candidate, and holds that the other gets the room that it waits for.
func wantRoomAfter(t *testing.T, ended, waits *Candidate, done <-chan error) {
	t.Helper()
	ended.Held.Settle()
	if err := <-done; err != nil {
		t.Error(err)
	}
	waits.Held.Settle()
}

// TestClassHasShares: an address that holds less than its share of all messages may have
// more than its share of large replies. While another address waits for one, its calls
// end.
func TestClassHasShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(800, 0) // 300 for large replies
		var much, little Address
		rich := &Candidate{Held: entryOf(a, &much), Moved: time.Now()}
		rich.Held.Add(Reply, 250)
		poor := &Candidate{Held: entryOf(a, &little), Moved: time.Now()}
		all := []*Candidate{rich, poor}
		a.Count(all, time.Now())
		done := asks(t, poor.Held, Reply, 100)
		if got := a.wants()[Reply].Fair; got != 100 {
			t.Errorf("%d bytes of large replies are wanted for an address that has none, want 100", got)
		}
		if victims, urgent := a.Choose(all, time.Now()); len(victims) > 0 || !urgent {
			t.Errorf("at once %d calls end that move, and that it presses is %v", len(victims), urgent)
		}
		time.Sleep(grace)
		if victims, _ := a.Choose(all, time.Now()); len(victims) != 1 || victims[0] != rich {
			t.Errorf("after %v %v end, want the call of the address that has more than its share of large replies", grace, victims)
		}
		wantRoomAfter(t, rich, poor, done)
	})
}

// TestMessagesMayWaitForCalls: where calls leave no room to messages, they are what has
// to end.
func TestMessagesMayWaitForCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(500, 1000)
		var much, little Address
		rich := &Candidate{Held: entryOf(a, &much), Moved: time.Now()}
		poor := &Candidate{Held: entryOf(a, &little), Moved: time.Now()}
		rich.Held.Begin(t.Context(), 750)
		rich.Held.Add(Small, 250) // half of what messages may have
		all := []*Candidate{rich, poor}
		a.Count(all, time.Now())
		done := asks(t, poor.Held, Small, 50)
		if got := a.wants()[Fixed].Fair; got != 50 {
			t.Errorf("%d bytes of anything are wanted, want 50", got)
		}
		time.Sleep(grace)
		if victims, _ := a.Choose(all, time.Now()); len(victims) != 1 || victims[0] != rich {
			t.Errorf("%d calls end, want the one that has everything", len(victims))
		}
		wantRoomAfter(t, rich, poor, done)
	})
}

// TestWhatStaysMakesWayForOthers: what was ended and doesn't go isn't waited for for ever.
func TestWhatStaysMakesWayForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(400, 0)
		var much, little Address
		stays := &Candidate{Held: entryOf(a, &much), Moved: time.Now()}
		next := &Candidate{Held: entryOf(a, &much), Moved: time.Now().Add(1)}
		poor := &Candidate{Held: entryOf(a, &little), Moved: time.Now()}
		stays.Held.Add(Small, 200)
		next.Held.Add(Small, 200)
		all := []*Candidate{next, stays, poor}
		a.Count(all, time.Now())
		done := asks(t, poor.Held, Small, 50)
		for _, step := range []struct {
			after time.Duration
			want  []*Candidate
		}{{grace, []*Candidate{stays}}, {grace, nil}, {leavingTime, []*Candidate{next}}} {
			time.Sleep(step.after)
			if victims, _ := a.Choose(all, time.Now()); !slices.Equal(victims, step.want) {
				t.Errorf("%v later %v end, want %v", step.after, victims, step.want)
			}
		}
		stays.Held.Settle()
		next.Held.Settle()
		if err := <-done; err != nil {
			t.Error(err)
		}
		poor.Held.Settle()
	})
}

// TestReservedBehindTheEnd: what an entry gets when it is settled already is given back.
func TestReservedBehindTheEnd(t *testing.T) {
	a := New(400, 1000)
	e := a.NewEntry()
	e.Settle()
	if err := e.reserve(t.Context(), Small, 10); err != nil {
		t.Error(err)
	}
	e.Begin(t.Context(), 10)
	if got := a.Held(); got != 0 {
		t.Errorf("%d bytes are held by nobody", got)
	}
}

// TestConnectionsDebt: a connection may get in beyond the bound, and something has to end
// for it until there is room again.
func TestConnectionsDebt(t *testing.T) {
	a := New(400, 1600) // 1,200 for connections
	a.setSharers(2)
	pressed := 0
	a.OnPressed = func() { pressed++ }
	var much, little Address
	crowd := entryOf(a, &much)
	crowd.Begin(t.Context(), 1200)
	first, second := entryOf(a, &little), entryOf(a, &little)
	if entryOf(a, &much).Enter(10) || !first.Enter(50) || a.wants()[Fixed].Fair != 50 || pressed != 1 {
		t.Errorf("in: %d of 1,250 bytes, %d are wanted, and that was told %d times", a.Held(), a.wants()[Fixed].Fair, pressed)
	}
	first.Settle()
	if second.Enter(50); a.wants()[Fixed].Fair != 50 {
		t.Errorf("%d bytes are wanted for one connection of 50 in place of another", a.wants()[Fixed].Fair)
	}
	crowd.Settle()
	if a.wants(); a.Pressed() {
		t.Error("with room for all somebody has to end")
	}
	second.Settle()
}

// TestIdleHolderMakesRoom: an address that holds everything and does nothing isn't taken
// for absent.
func TestIdleHolderMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(400, 1000)
		var much, little Address
		var all []*Candidate
		for range 75 {
			c := &Candidate{Held: entryOf(a, &much), Moved: time.Now()}
			if !c.Held.Begin(t.Context(), 10) {
				t.Fatal("there is no room")
			}
			all = append(all, c)
		}
		time.Sleep(2 * standstill)
		newcomer := &Candidate{Held: entryOf(a, &little), Moved: time.Now()}
		all = append(all, newcomer)
		a.Count(all, time.Now())
		served := make(chan bool, 1)
		go func() { served <- newcomer.Held.Begin(t.Context(), 10) }()
		synctest.Wait()
		victims, _ := a.Choose(all, time.Now())
		for _, v := range victims {
			v.Held.Settle()
		}
		if !<-served || len(victims) == 0 {
			t.Errorf("%d calls ended for a newcomer", len(victims))
		}
		for _, c := range all {
			c.Held.Settle()
		}
	})
}

// TestTurnedAwayIsCounted: a connection that was turned away, for which something has to
// end, shares the room, though its address holds nothing.
func TestTurnedAwayIsCounted(t *testing.T) {
	a := New(400, 1600)
	var much, little Address
	crowd := &Candidate{Held: entryOf(a, &much), Moved: time.Now()}
	crowd.Held.Begin(t.Context(), 1200)
	crowd.Held.Add(Fixed, 195)
	if entryOf(a, &little).Enter(10) {
		t.Fatal("a connection is let in more than an eighth over the bound")
	}
	later := time.Now().Add(2 * grace)
	if victims, urgent := a.Choose([]*Candidate{crowd}, later); len(victims) != 1 || !urgent {
		t.Errorf("%d calls end for a connection that was turned away, urgent: %v", len(victims), urgent)
	}
	crowd.Held.Settle()
}

// TestRepliesOfOthersKeepNobodyOut: small replies come unasked. Until they exceed the bound
// by half, an address within its share gets its connection.
func TestRepliesOfOthersKeepNobodyOut(t *testing.T) {
	a := New(400, 1600)
	a.setSharers(2)
	var much, little Address
	crowd, newcomer := entryOf(a, &much), entryOf(a, &little)
	crowd.Begin(t.Context(), 1200)
	crowd.Add(Small, 1000)
	if !newcomer.Enter(10) {
		t.Error("a connection is refused because of the replies of another address")
	}
	crowd.Add(Small, 190)
	if newcomer.Enter(10) {
		t.Error("a connection is let in more than half over the bound")
	}
	crowd.Settle()
	newcomer.Settle()
}

// TestOthersWaitBehindThoseWithinTheirShare, also where they wait for another class.
func TestOthersWaitBehindThoseWithinTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(400, 1000)
		a.setSharers(2)
		var much, little Address
		calls, rich, poor := entryOf(a, &much), entryOf(a, &much), entryOf(a, &little)
		calls.Begin(t.Context(), 700)
		rich.Add(Small, 300)
		newcomer := make(chan bool, 1)
		go func() { newcomer <- poor.Begin(t.Context(), 40) }()
		synctest.Wait()
		greedy := asks(t, rich, Small, 30)
		rich.Sub(Small, 30)
		synctest.Wait()
		if len(greedy) > 0 {
			t.Error("what became free went to the address that has more than its share")
		}
		rich.Sub(Small, 10)
		synctest.Wait()
		if len(newcomer) != 1 || !<-newcomer {
			t.Error("what became free didn't go to the newcomer")
		}
		calls.Settle()
		if err := <-greedy; err != nil {
			t.Error(err)
		}
		rich.Settle()
		poor.Settle()
	})
}

// TestNobodyWithinTheirShareEndsForOthersWants: while only an address waits that has more
// than its share, the calls of others may stand still.
func TestNobodyWithinTheirShareEndsForOthersWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(16<<20, 0)
		var much, little Address
		rich := &Candidate{Held: entryOf(a, &much)}
		poor := &Candidate{Held: entryOf(a, &little)}
		rich.Held.Add(Small, 15<<20)
		poor.Held.Add(Small, 1<<20)
		all := []*Candidate{rich, poor}
		a.Count(all, time.Now())
		done := asks(t, rich.Held, Small, 1<<20)
		time.Sleep(standstill)
		poor.Moved, rich.Moved = time.Now().Add(-standstill), time.Now()
		if victims, urgent := a.Choose(all, time.Now()); len(victims) > 0 || urgent {
			t.Errorf("%d calls end for an address over its share, urgent: %v", len(victims), urgent)
		}
		poor.Held.Settle()
		if err := <-done; err != nil {
			t.Error(err)
		}
		rich.Held.Settle()
	})
}

// TestAddressAloneKeepsItsRoom: large replies that wait keep no small message out for which
// there is room, if they are of the only address or of none.
func TestAddressAloneKeepsItsRoom(t *testing.T) {
	a := New(800, 0) // 300 for large replies
	var one Address
	e, windows := entryOf(a, &one), a.NewEntry()
	windows.Add(Small, 300)
	e.Add(Small, 400)
	e.Add(Reply, 10)
	for _, who := range []*Entry{e, e, nil} {
		w, atOnce := a.Ask(who, Reply, 280, func() {})
		if atOnce {
			t.Fatal("there is room")
		}
		defer a.Drop(w)
	}
	for sharers := 1; sharers <= 2; sharers++ {
		a.setSharers(sharers)
		if got := a.take(&one, 50); got != (sharers == 1) {
			t.Errorf("with %d addresses a small message of one over its share gets room: %v", sharers, got)
		}
		a.Drop(newWaiterOf(a, 1)) // the queues are gone through again
	}
	e.Settle()
	windows.Settle()
}

// newWaiterOf asks for some bytes for nobody.
func newWaiterOf(a *Account, n int64) *Waiter {
	w, _ := a.Ask(nil, Small, n, func() {})
	return w
}

// TestShareHasRoomForACall, however many addresses there are.
func TestShareHasRoomForACall(t *testing.T) {
	a := New(256<<20, 512<<20)
	a.setSharers(1 << 20)
	var one Address
	conn, call := entryOf(a, &one), entryOf(a, &one)
	if !conn.Enter(ConnBytes + TLSBytes) {
		t.Error("there is no room for a connection")
	}
	crowd := a.NewEntry()
	crowd.Add(Fixed, int(a.Total()))
	if got := CallBytes + one.claims(); got > a.share(Fixed) {
		t.Errorf("with a call an address has %d bytes, and its share is %d", got, a.share(Fixed))
	}
	for _, e := range []*Entry{conn, call, crowd} {
		e.Settle()
	}
}

// TestNoRoomSaysTheKey of the limit that the message can't pass.
func TestNoRoomSaysTheKey(t *testing.T) {
	a := New(100, 1000)
	for n, key := range map[int64]string{1000: report.KeyBufferedBytes, 1001: report.KeyMemory} {
		if f := a.NoRoom(n); f.Reason != report.ReasonLimitExceeded || f.Key != key || (f.Retry > 0) != (key == report.KeyBufferedBytes) {
			t.Errorf("a message of %d bytes is refused by %+v, want %s", n, f, key)
		} else if key == report.KeyMemory && (strings.Contains(f.Text, fmt.Sprint(n)) || !strings.Contains(f.Remedy, report.KeyMessageBytes)) {
			t.Errorf("%q and %q: want no size, and what helps compressed messages", f.Text, f.Remedy)
		}
	}
}

// TestUnaskedBytesHaveABound: what comes unasked may pass the bound by an eighth. From there
// on the calls of addresses that are over their share have to end.
func TestUnaskedBytesHaveABound(t *testing.T) {
	for name, a := range map[string]*Account{"of messages": New(800, 0), "of all": New(800, 800)} {
		a.setSharers(2)
		var much, little Address
		rich, poor := entryOf(a, &much), entryOf(a, &little)
		if !rich.Unread(900) {
			t.Errorf("%s: what passes the bound by an eighth has to end", name)
		}
		if !poor.Unread(1) {
			t.Errorf("%s: a call of an address within its share has to end", name)
		}
		if rich.Unread(1) {
			t.Errorf("%s: a call of an address over its share may go on", name)
		}
		rich.Settle()
		if !rich.Unread(-1) || !poor.Unread(1) {
			t.Errorf("%s: with room again something has to end", name)
		}
		poor.Settle()
	}
}
