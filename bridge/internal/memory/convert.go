package memory

import (
	"container/heap"
	"context"
	"runtime"
	"sync"
)

// conversions bounds the memory that conversions of messages take while they run: half as
// much as messages may take. This room is apart from that of the messages. A conversion
// already holds a message, so in the same room conversions could wait for each other for
// ever. A conversion that has room here waits for nobody, and is soon done.
//
// Small conversions have a part of the room for themselves, so they never wait behind large
// ones. Conversions do nothing but compute, so as many large ones run as there are
// processors, and a few times as many small ones: more would only slow down everything else.
// An address that runs none needs no free place once it is its turn.
type conversions [2]turns

const (
	smallConversions = iota
	largeConversions
)

const (
	smallPart    = 16        // the part of the room that is for small conversions
	smallPerRoom = 64        // one that takes a larger part of the room isn't small
	maxSmall     = 256 << 10 // nor is one that takes more
)

// conversionRoom returns the memory for conversions.
func (a *Account) conversionRoom() int64 { return max(a.Messages()/2, smallPerRoom) }

func (a *Account) initConversions() {
	a.conversions[smallConversions].bounds = func() (int64, int) {
		return a.conversionRoom() / smallPart, 4 * runtime.GOMAXPROCS(0)
	}
	a.conversions[largeConversions].bounds = func() (int64, int) {
		return a.conversionRoom() / smallPart * (smallPart - 1), runtime.GOMAXPROCS(0)
	}
}

// A Keeper keeps messages for others that follow, so that they leave together.
type Keeper interface {
	SendKept() // sends them at once
}

// Convert waits until a conversion that takes n bytes may run. The caller must call done
// after it. fits reports whether so much fits at all. Before it waits, it has kept send what it
// keeps. kept may be nil.
func (e *Entry) Convert(ctx context.Context, n int64, kept Keeper) (done func(), fits bool, err error) {
	a, of := e.account, smallConversions
	if n > min(a.conversionRoom()/smallPerRoom, maxSmall) {
		of = largeConversions
	}
	t := &a.conversions[of]
	if room, _ := t.bounds(); n > room {
		return nil, false, nil
	}
	o := e.Owner()
	w := t.ask(o, n)
	if w != nil && kept != nil && t.leave(w) { // others must not wait for this client
		kept.SendKept()
		w = t.ask(o, n)
	}
	if w != nil {
		patient, stop := context.WithTimeoutCause(ctx, Patience, a.NoRoom(n))
		defer stop()
		select {
		case <-w.begins:
		case <-patient.Done():
			if t.leave(w) {
				return nil, true, context.Cause(patient)
			}
		}
	}
	return func() { t.end(o, n) }, true, nil
}

// turns lets conversions begin: first that of the address that has had the least. Each
// address has a mark that moves on by the bytes of each of its conversions. A conversion
// begins at its address's mark, or at that of the last one that began if this is further on:
// an address saves nothing up while it converts nothing. This is start-time fair queueing
// (Goyal, Vin and Cheng, 1996).
type turns struct {
	bounds func() (room int64, places int)

	mu      sync.Mutex
	used    int64 // by those that run
	running int
	mark    int64 // where the last one began
	asked   int64 // how many have asked
	waiting waitingTurns
	of      map[*Address]*converted // since there was last no conversion
}

// converted is what one address has had.
type converted struct {
	mark             int64
	running, waiting int
}

// manyConverters is of how many addresses turns remembers what they have had, besides those
// that convert.
const manyConverters = 1000

// A turn is a conversion that waits.
type turn struct {
	owner  *Address
	of     *converted
	bytes  int64
	from   int64 // the mark where it begins
	number int64 // in the order of asking
	place  int   // in waiting; -1: it has begun
	begins chan struct{}
}

// ask begins a conversion and returns nil, or returns the turn to wait for.
func (t *turns) ask(o *Address, n int64) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.of[o]
	if of == nil {
		if t.of == nil {
			t.of = make(map[*Address]*converted)
		}
		of = &converted{}
		t.of[o] = of
	}
	w := turn{owner: o, of: of, bytes: n, from: max(t.mark, of.mark)}
	of.mark = w.from + n
	if len(t.waiting) == 0 && t.fits(&w) {
		t.begin(&w)
		return nil
	}
	t.asked++
	of.waiting++
	waits := w
	waits.number, waits.begins = t.asked, make(chan struct{})
	heap.Push(&t.waiting, &waits)
	t.grant()
	return &waits
}

// fits reports whether a conversion may begin. One that is alone always may: the room may
// have shrunk since it asked. mu is held, as in begin and grant.
func (t *turns) fits(w *turn) bool {
	room, places := t.bounds()
	return t.running == 0 || t.used+w.bytes <= room && (t.running < places || w.of.running == 0)
}

func (t *turns) begin(w *turn) {
	t.used += w.bytes
	t.running++
	w.of.running++
	t.mark = max(t.mark, w.from)
}

func (t *turns) grant() {
	for len(t.waiting) > 0 && t.fits(t.waiting[0]) {
		w := heap.Pop(&t.waiting).(*turn)
		w.of.waiting--
		t.begin(w)
		close(w.begins)
	}
}

// end gives the room of a conversion to the next ones.
func (t *turns) end(o *Address, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used -= n
	t.running--
	t.of[o].running--
	t.grant()
	t.forget(o)
}

// forget removes what nobody needs of an address: all if there is no conversion. mu is held.
func (t *turns) forget(o *Address) {
	switch of := t.of[o]; {
	case t.running == 0: // then none waits
		t.mark = 0
		if len(t.of) > 1 {
			t.of = nil // a large map is slow to clear
		}
		delete(t.of, o)
	case of.running == 0 && of.waiting == 0 && len(t.of) > manyConverters:
		delete(t.of, o)
	}
}

// leave stops the waiting, and reports whether the conversion hadn't begun.
func (t *turns) leave(w *turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.place < 0 {
		return false
	}
	heap.Remove(&t.waiting, w.place)
	w.of.mark -= w.bytes
	w.of.waiting--
	t.grant()
	t.forget(w.owner)
	return true
}

// waitingTurns is a heap for container/heap.
type waitingTurns []*turn

func (q waitingTurns) Len() int { return len(q) }

func (q waitingTurns) Less(i, j int) bool {
	return q[i].from < q[j].from || q[i].from == q[j].from && q[i].number < q[j].number
}

func (q waitingTurns) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *waitingTurns) Push(w any) {
	w.(*turn).place = len(*q)
	*q = append(*q, w.(*turn))
}

func (q *waitingTurns) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	w.place = -1
	return w
}

// Take counts n bytes of the message without waiting: they take the place of others that
// are freed next.
func (c *Claim) Take(of Class, n int) {
	c.entry.Add(of, n)
	c.bytes[of] += uint32(n)
}
