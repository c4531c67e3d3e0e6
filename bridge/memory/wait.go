package memory

import (
	"container/list"
	"context"
	"iter"
	"sync/atomic"
	"time"
)

// waiters are those of one class, oldest first: those whose address held less than
// its share when they asked, and the others, who come behind them.
type waiters struct{ fair, greedy list.List } // of *Waiter

// An atomicCount counts waiters.
type atomicCount struct{ atomic.Int64 }

// A Waiter has asked for bytes. The fields are guarded by the account's mu.
type Waiter struct {
	owner *Address
	class Class
	bytes int64
	since time.Time
	ready func() // called when they are reserved, if that was not at once; mu is held
	in    *list.List
	place *list.Element // nil: they are reserved, or given back
}

// Pressed reports whether something has to end: somebody waits for room, or more is
// held than may be.
func (a *Account) Pressed() bool { return a.awaited() || a.debt.is.Load() }

// awaited reports whether somebody waits for room.
func (a *Account) awaited() bool {
	return a.queue[Small].Load()+a.queue[Request].Load()+a.queue[Reply].Load()+a.queue[Fixed].Load() > 0
}

// A debt says that somebody was let in though there was no room.
type debt struct {
	is    atomic.Bool
	since time.Time // mu is held
}

// borrow notes that somebody was let in who had no room.
func (a *Account) borrow() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.debt.is.Swap(true) {
		a.debt.since = time.Now()
	}
	a.press()
}

// owes returns how many bytes the debt is. mu is held.
func (a *Account) owes() int64 {
	if !a.debt.is.Load() {
		return 0
	}
	used, fixed := a.used.Load(), a.fixed.Load()
	owed := max(fixed-(a.Total-a.messagesReserve()), used+fixed-a.Total)
	if owed <= 0 {
		a.debt.is.Store(false)
	}
	return owed
}

// press tells that something has to end.
func (a *Account) press() {
	if a.OnPressed != nil {
		a.OnPressed()
	}
}

// take reserves n bytes without a lock, if there is room and nobody waits. Only
// small messages can.
func (a *Account) take(o *Address, of Class, n int64) bool {
	if of != Small || a.queue[Small].Load() > 0 || !a.fits(Small, n) {
		return false
	}
	a.add(o, Small, n) // by a race a few may pass the limit by one message
	return true
}

// await reserves n bytes, and waits for them not longer than patience.
func (a *Account) await(ctx context.Context, o *Address, of Class, n int64, patience time.Duration) error {
	ready := make(chan struct{})
	w, atOnce := a.ask(o, of, n, func() { close(ready) })
	if atOnce {
		return nil
	}
	impatient := time.NewTimer(patience)
	defer impatient.Stop()
	var err error
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-impatient.C:
		err = Full()
	}
	a.Drop(w)
	return err
}

// Ask reserves n bytes for the owner of an entry, or for nobody in particular if it is
// nil, and returns whether that was at once; else ready is called when it is done, from
// wherever room comes. Drop ends the claim.
func (a *Account) Ask(e *Entry, of Class, n int64, ready func()) (w *Waiter, atOnce bool) {
	if e == nil {
		return a.ask(&a.unknown, of, n, ready)
	}
	return a.ask(e.Owner(), of, n, ready)
}

func (a *Account) ask(o *Address, of Class, n int64, ready func()) (w *Waiter, atOnce bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w = &Waiter{owner: o, class: of, bytes: n}
	w.in = &a.waiters[of].fair
	if of != Fixed && !a.within(o, of, n) {
		w.in = &a.waiters[of].greedy
	}
	w.place = w.in.PushBack(w)
	before := a.awaited()
	a.queue[of].Add(1)
	o.asked.Add(n)
	a.grant()
	w.ready = ready
	if w.place == nil {
		return w, true
	}
	w.since = time.Now()
	if !before || w.in.Len() == 1 && w.in == &a.waiters[of].fair {
		a.press()
	}
	return w, false
}

// Drop gives back what a waiter has, or takes it out of the queue. It is
// called once.
func (a *Account) Drop(w *Waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.place == nil {
		a.add(w.owner, w.class, -w.bytes)
	} else {
		a.leave(w)
	}
	a.grant()
}

// leave takes a waiter out of its queue. mu is held.
func (a *Account) leave(w *Waiter) {
	w.in.Remove(w.place)
	w.owner.asked.Add(-w.bytes)
	w.place = nil
	a.queue[w.class].Add(-1)
}

// grantOrder has small messages first: while large ones wait, conversations go on.
var grantOrder = [...]Class{Small, Fixed, Request, Reply}

// grant lets waiters in: those of addresses within their share first, and of each
// kind the oldest. mu is held.
func (a *Account) grant() {
	for _, of := range grantOrder {
		if a.queue[of].Load() > 0 && a.grantFrom(&a.waiters[of].fair) {
			a.grantFrom(&a.waiters[of].greedy)
		}
	}
}

// grantFrom lets the waiters of one queue in, and returns whether none is left. mu
// is held.
func (a *Account) grantFrom(in *list.List) bool {
	for place, next := in.Front(), (*list.Element)(nil); place != nil; place = next {
		next = place.Next()
		w := place.Value.(*Waiter)
		if !a.fits(w.class, w.bytes) {
			if a.NeedsAll(w.class, w.bytes) {
				continue // it gets in alone: the others needn't wait for that
			}
			return false
		}
		a.add(w.owner, w.class, w.bytes)
		a.leave(w)
		if w.ready != nil {
			w.ready()
		}
	}
	return in.Len() == 0
}

// NeedsAll reports whether a message gets in only while its class has no other.
func (a *Account) NeedsAll(of Class, n int64) bool { return of < Small && n > a.bulk() }

// A Want is how many bytes some wait for.
type Want struct {
	Fair   int64     // of addresses that held less than their share
	Greedy int64     // of others
	Oldest time.Time // when the first of Fair asked
}

// Kinds are what has to end so that others have room: large requests, large replies,
// any messages (Small), or anything (Fixed).
const Kinds = classes

// Wants returns what is waited for, by what would have to end for it.
func (a *Account) Wants() (wants [Kinds]Want) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for of := range classes {
		for w := range all(&a.waiters[of].greedy) {
			wants[a.kind(w)].Greedy += w.bytes
		}
		for w := range all(&a.waiters[of].fair) {
			want := &wants[a.kind(w)]
			want.Fair += w.bytes
			want.asked(w.since)
		}
	}
	if n := a.owes(); n > 0 {
		wants[Fixed].Fair += n
		wants[Fixed].asked(a.debt.since)
	}
	return wants
}

// kind is what has to end for a waiter. mu is held.
func (a *Account) kind(w *Waiter) Class {
	large := w.class < Small
	alone := large && a.by[w.class].Load() == 0
	switch {
	case large && !alone && !a.hasPlace(w.class, w.bytes):
		return w.class
	case w.class == Fixed, alone, a.used.Load()+w.bytes <= a.Messages: // it waits for room in Total
		return Fixed
	default:
		return Small
	}
}

// asked notes that somebody has wanted it since then.
func (w *Want) asked(since time.Time) {
	if w.Oldest.IsZero() || since.Before(w.Oldest) {
		w.Oldest = since
	}
}

// all yields the waiters of a queue. mu is held.
func all(in *list.List) iter.Seq[*Waiter] {
	return func(yield func(*Waiter) bool) {
		for place := in.Front(); place != nil && yield(place.Value.(*Waiter)); place = place.Next() {
		}
	}
}
