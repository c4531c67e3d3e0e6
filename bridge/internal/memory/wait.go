package memory

import (
	"container/list"
	"context"
	"iter"
	"sync/atomic"
	"time"
)

// waiters are the waiters of one class, oldest first: fair has those whose address held
// less than its share when they asked, and greedy the others, who come after them.
type waiters struct{ fair, greedy list.List } // of *Waiter

// A Waiter has asked for bytes. The fields are guarded by the account's mu.
type Waiter struct {
	owner *Address
	class Class
	bytes int64
	since time.Time
	ready func() // called when they are reserved, if that didn't happen at once; mu is held
	in    *list.List
	place *list.Element // nil: they are reserved, or given back
}

// Pressed reports whether something may have to end: somebody waits for room, or got in
// without any.
func (a *Account) Pressed() bool { return a.awaited() || a.debt.is.Load() }

// awaited reports whether somebody waits for room.
func (a *Account) awaited() bool {
	return a.queue[Small].Load()+a.queue[Request].Load()+a.queue[Reply].Load()+a.queue[Fixed].Load() > 0
}

// A debt notes that somebody got in although there was no room, or was turned away
// although their address holds less than its share. mu is held except for is.
type debt struct {
	is    atomic.Bool
	since time.Time
	to    *Address // the last one
}

// borrow notes that there was no room for somebody.
func (a *Account) borrow(to *Address) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.debt.is.Swap(true) {
		a.debt.since = time.Now()
	}
	a.debt.to = to
	a.press()
}

// creditor returns the address to which there is a debt, or nil.
func (a *Account) creditor() *Address {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.debt.is.Load() || a.debt.to == &a.unknown {
		return nil
	}
	return a.debt.to
}

// owes returns how many bytes the debt is, and forgets one that is paid. mu is held.
func (a *Account) owes() int64 {
	if !a.debt.is.Load() {
		return 0
	}
	used, fixed, total := a.used.Load(), a.fixed.Load(), a.total.Load()
	owed := max(fixed-(total-a.messagesReserve()), used+fixed-total)
	if owed <= 0 {
		a.debt.is.Store(false)
	}
	return owed
}

// press reports that something must end.
func (a *Account) press() {
	if a.OnPressed != nil {
		a.OnPressed()
	}
}

// take reserves n bytes of small messages without a lock, if there is room and nobody
// waits.
func (a *Account) take(o *Address, n int64) bool {
	if a.queue[Small].Load() > 0 || !a.fits(Small, n) || a.blocked.Load() && !a.within(o, Small, n) {
		return false
	}
	a.add(o, Small, n) // in a race a few may exceed the limit by one message
	return true
}

// Spares reports whether n more bytes of small messages have room, and nobody waits for it.
func (a *Account) Spares(n int64) bool {
	return a.queue[Small].Load() == 0 && !a.blocked.Load() && a.fits(Small, n)
}

// await reserves n bytes, and waits at most patience for them. If it has to wait, it sets since
// to when that begins.
func (a *Account) await(ctx context.Context, o *Address, of Class, n int64, patience time.Duration, since *time.Time) error {
	ready := make(chan struct{})
	w, atOnce := a.ask(o, of, n, func() { close(ready) })
	if atOnce {
		return nil
	}
	*since = time.Now()
	var err error
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-time.After(patience):
		err = a.NoRoom(n)
	}
	a.Drop(w)
	return err
}

// Ask reserves n bytes for e's address, or for no address if e is nil. If there is no
// room yet, it returns false and later calls ready, with mu held: ready must not call
// the account. Drop must be called once. Drop gives the bytes back, or stops the
// waiting.
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

// Drop gives back a waiter's bytes, or removes it from the queue. It is called once.
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

// leave removes a waiter from its queue. mu is held.
func (a *Account) leave(w *Waiter) {
	w.in.Remove(w.place)
	w.owner.asked.Add(-w.bytes)
	w.place = nil
	a.queue[w.class].Add(-1)
}

// grantOrder puts small messages first: while large ones wait, conversations continue.
var grantOrder = [...]Class{Small, Fixed, Request, Reply}

// grant lets waiters in: addresses within their share first, and in each kind the
// oldest first. Others get no room that those still wait for. mu is held.
func (a *Account) grant() {
	blocked := false
	var full [classes]bool
	for _, of := range grantOrder {
		fair := &a.waiters[of].fair
		a.grantFrom(fair)
		if w := a.firstOwned(fair); w != nil {
			full[of] = true
			blocked = blocked || a.lacksRoomOfAll(w)
		}
	}
	blocked = blocked && a.sharers.Load() > 1 // an address alone leaves no room free for others
	a.blocked.Store(blocked)
	if blocked {
		return
	}
	for _, of := range grantOrder {
		if !full[of] {
			a.grantFrom(&a.waiters[of].greedy)
		}
	}
}

// grantFrom lets the waiters of one queue in, as far as there is room. mu is held.
func (a *Account) grantFrom(in *list.List) {
	for place, next := in.Front(), (*list.Element)(nil); place != nil; place = next {
		next = place.Next()
		w := place.Value.(*Waiter)
		if !a.fits(w.class, w.bytes) {
			if a.NeedsAll(w.class, w.bytes) {
				continue // it gets in only when alone: the others needn't wait for that
			}
			return
		}
		a.add(w.owner, w.class, w.bytes)
		a.leave(w)
		if w.ready != nil {
			w.ready()
		}
	}
}

// NeedsAll reports whether a message gets in only while its class has no other message.
func (a *Account) NeedsAll(of Class, n int64) bool { return of < Small && n > a.bulk() }

// A want is how many bytes are waited for.
type want struct {
	Fair   int64     // of addresses that held less than their share
	Greedy int64     // of others
	Oldest time.Time // when the first of Fair asked
}

// wants returns the bytes that are waited for, by the kind of memory that would have to
// be freed: large requests, large replies, any messages (Small), or anything (Fixed).
func (a *Account) wants() (wants [classes]want) {
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

// firstOwned returns the first waiter for whom others must wait: not the window of a
// backend, nor a message that gets in only alone. It may be nil. mu is held.
func (a *Account) firstOwned(in *list.List) *Waiter {
	for w := range all(in) {
		if w.owner != &a.unknown && !a.NeedsAll(w.class, w.bytes) {
			return w
		}
	}
	return nil
}

// lacksRoomOfAll reports whether a waiter lacks room that any message could take, and
// not room of its class. mu is held.
func (a *Account) lacksRoomOfAll(w *Waiter) bool {
	if w.class == Fixed {
		return a.used.Load()+a.fixed.Load()+w.bytes > a.total.Load()
	}
	return w.class == Small || a.kind(w) != w.class
}

// kind returns the kind of memory that must be freed for a waiter. mu is held.
func (a *Account) kind(w *Waiter) Class {
	large := w.class < Small
	alone := large && a.by[w.class].Load() == 0
	switch {
	case large && !alone && !a.hasPlace(w.class, w.bytes):
		return w.class
	case w.class == Fixed, alone, a.used.Load()+w.bytes <= a.Messages(): // it waits for room in the total
		return Fixed
	default:
		return Small
	}
}

// asked notes that somebody has waited since then.
func (w *want) asked(since time.Time) {
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
