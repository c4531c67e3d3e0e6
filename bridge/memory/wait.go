package memory

import (
	"container/list"
	"context"
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
func (a *Account) Pressed() bool { return a.awaited() || a.debt.bytes.Load() > 0 }

// awaited reports whether somebody waits for room.
func (a *Account) awaited() bool {
	return a.queue[Small].Load()+a.queue[Request].Load()+a.queue[Reply].Load()+a.queue[Fixed].Load() > 0
}

// A debt is what was let in though there was no room for it.
type debt struct {
	bytes atomic.Int64
	since time.Time // of the first of them; mu is held
}

// borrow lets n bytes in that have no room.
func (a *Account) borrow(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.debt.bytes.Add(n) == n {
		a.debt.since = time.Now()
	}
	a.press()
}

// settleDebt forgets the debt once there is room. mu is held.
func (a *Account) settleDebt() {
	if a.fits(Fixed, 0) {
		a.debt.bytes.Store(0)
	}
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
		err = full()
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
	if o != &a.unknown && of != Fixed && o.messages.Load()+o.asked.Load()+n > a.Share() {
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
	if !before {
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
			if w.class < Small && w.bytes > a.bulk() {
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

// A Want is how many bytes some wait for.
type Want struct {
	Fair   int64     // of addresses that held less than their share
	Greedy int64     // of others
	Oldest time.Time // when the first of Fair asked
}

// Kinds are what has to end so that others have room: large requests, large replies,
// any messages (Small), or anything (Fixed).
const Kinds = classes

// Wants returns what is waited for, by what would have to end for it. A large
// message for which its class has room waits for any message.
func (a *Account) Wants() (wants [Kinds]Want) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for of := range classes {
		kind := of
		if of < Small && a.by[of].Load() <= a.bulk()/2 {
			kind = Small
		}
		w := &wants[kind]
		w.Greedy += sum(&a.waiters[of].greedy)
		fair := &a.waiters[of].fair
		w.Fair += sum(fair)
		if first := fair.Front(); first != nil {
			w.asked(first.Value.(*Waiter).since)
		}
	}
	a.settleDebt()
	if n := a.debt.bytes.Load(); n > 0 {
		w := &wants[Fixed]
		w.Fair += n
		w.asked(a.debt.since)
	}
	return wants
}

// asked notes that somebody has wanted it since then.
func (w *Want) asked(since time.Time) {
	if w.Oldest.IsZero() || since.Before(w.Oldest) {
		w.Oldest = since
	}
}

// sum is how many bytes the waiters of a queue want.
func sum(in *list.List) (bytes int64) {
	for place := in.Front(); place != nil; place = place.Next() {
		bytes += place.Value.(*Waiter).bytes
	}
	return bytes
}
