package memory

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An Entry is the memory of one call or one connection. grpc-go doesn't free the queued
// messages of a cancelled stream, so a call's entry is settled at the call's end, with
// whatever is still in use.
type Entry struct {
	// Call is told of a panic in freeing one of the entry's requests, also after its end. It
	// is set before there is one.
	Call interface{ Panicked(v any) }

	account *Account
	owner   atomic.Pointer[Address]
	held    [classes]atomic.Int64
	paid    atomic.Int64 // of small messages: the account's count, never less than the held bytes (ahead.go)
	waits   atomic.Int32 // reservations under way
	coming  atomic.Int64 // of held: room for bytes on their way
	moved   atomic.Int64 // bytes of messages that were sent in parts

	trace atomic.Pointer[report.Trace] // of the call; is told of waits
	first *report.Step                 // the wait for the call itself, before it had a trace; nil: it didn't wait
}

// Trace returns the trace of the entry's call, or nil.
func (e *Entry) Trace() *report.Trace { return e.trace.Load() }

// Follow has the trace told of the waits for room, also of the one in Begin.
func (e *Entry) Follow(t *report.Trace) {
	e.trace.Store(t)
	if e.first != nil && t.Wants() {
		t.Steps.Step(*e.first)
	}
}

// NewEntry returns an entry without an address.
func (a *Account) NewEntry() *Entry {
	e := &Entry{account: a}
	e.owner.Store(&a.unknown)
	return e
}

// catch ends a panic in freeing a request, which grpc-go may do on a goroutine of its own.
// It must be deferred itself.
func (e *Entry) catch() {
	if v := recover(); v != nil {
		e.Call.Panicked(v)
	}
}

// Own sets the entry's address. It is called before anything is counted.
func (e *Entry) Own(o *Address) {
	if o != nil {
		e.owner.Store(o)
	}
}

// Owner returns the entry's address.
func (e *Entry) Owner() *Address { return e.owner.Load() }

// Account returns the account that the entry counts with.
func (e *Entry) Account() *Account { return e.account }

// The cost of calls and connections, beside messages: an estimate, in bytes, for a call
// with its stream to the backend, for a connection with its memory in the kernel, and
// for TLS on it. "make attack" prints how much 10,000 of them take.
const (
	CallBytes = 28 << 10
	ConnBytes = 16 << 10
	TLSBytes  = 16 << 10
)

// RestBytes is the cost of an answer over HTTP/2 that waits for its client after its request
// has been handled.
const RestBytes = 12 << 10

// RoomlessBytes is the largest request that is read without reserved room.
const RoomlessBytes = 1 << 10

// SmallBytes is the size up to which a message counts as small, if culvert reads or makes
// it: a request, or a reply that is decompressed or converted. A larger one waits for room
// in the share of large messages. What an upstream sends counts as small up to
// the same size (upstream.StreamWindow): HTTP/2 lets that much come unasked.
const SmallBytes = 64 << 10

// BehindBytes is how much the kernel may hold of a client's connection that culvert
// doesn't read while its request waits for the backend. Only calls with a connection of
// their own cost it: unread bytes of HTTP/2 are counted exactly.
const BehindBytes = 64 << 10

// settled is the value of held after the end: no later sub comes near zero.
const settled = -1 << 60

// Messages returns how many bytes of messages the entry has.
func (e *Entry) Messages() int64 {
	return max(e.held[Small].Load(), 0) + max(e.held[Request].Load(), 0) + max(e.held[Reply].Load(), 0)
}

// Promise counts n bytes of a large reply that may be sent from now on and are on their
// way. Came notes their arrival. Break removes those that can no longer arrive from the
// count.
func (e *Entry) Promise(n int64) {
	e.Add(Reply, int(n))
	e.coming.Add(n)
}

// Came notes that n promised bytes have arrived. They stay counted.
func (e *Entry) Came(n int64) { e.coming.Add(-n) }

// Break gives promised bytes back that haven't arrived.
func (e *Entry) Break(n int64) {
	e.coming.Add(-n)
	e.Sub(Reply, int(n))
}

// Moved notes that n bytes of an incomplete message were sent, in either direction.
func (e *Entry) Moved(n int) { e.moved.Add(int64(n)) }

// InParts returns how many bytes Moved has noted.
func (e *Entry) InParts() int64 { return e.moved.Load() }

// Arrived returns how many bytes of messages have arrived, without those on their way.
func (e *Entry) Arrived() int64 { return e.Messages() - e.coming.Load() }

// wouldFree returns how many bytes become free for waiters of the kind once the entry
// is settled.
func (e *Entry) wouldFree(kind Class) int64 {
	switch kind {
	case Fixed:
		return e.Total()
	case Small:
		return e.Messages()
	default:
		return max(e.held[kind].Load(), 0)
	}
}

// NoteWaiting adds n, 1 or -1, to the reservations of the entry that wait for room.
func (e *Entry) NoteWaiting(n int32) { e.waits.Add(n) }

// Waiting reports whether a reservation waits for room.
func (e *Entry) Waiting() bool { return e.waits.Load() > 0 }

// Total returns how many bytes the entry has.
func (e *Entry) Total() int64 { return e.Messages() + max(e.held[Fixed].Load(), 0) }

// A newcomer waits only until others are ended and told so.
const (
	newcomerPatience = 2 * time.Second
	maxNewcomers     = 1000 // waiting at one time
)

// Begin counts the cost of the entry's call or connection, and reports whether there is
// room for it. An address within its share waits a little for room that others give up.
func (e *Entry) Begin(ctx context.Context, n int64) bool {
	a := e.account
	switch waiting := a.queue[Fixed].Load(); {
	case waiting == 0 && a.fits(Fixed, n):
		a.add(e.Owner(), Fixed, n)
	case waiting >= maxNewcomers || e.Owner().claims()+n > a.share(Fixed):
		return false
	case !e.awaitBegin(ctx, n):
		return false
	}
	e.keep(Fixed, n)
	return true
}

// awaitBegin waits until there is room for a newcomer, and reports whether there is.
func (e *Entry) awaitBegin(ctx context.Context, n int64) bool {
	e.waits.Add(1)
	defer e.waits.Add(-1)
	var since time.Time
	err := e.account.await(ctx, e.Owner(), Fixed, n, newcomerPatience, &since)
	if !since.IsZero() {
		e.first = &report.Step{What: report.WaitedForRoom, Began: since, Took: time.Since(since)}
	}
	return err == nil
}

// Keep counts n bytes that nobody ends for, if there is room, and reports whether there is.
func (e *Entry) Keep(n int64) bool {
	if !e.account.fits(Fixed, n) {
		return false
	}
	e.account.add(e.Owner(), Fixed, n)
	e.keep(Fixed, n)
	return true
}

// Enter is Begin without waiting: an address within its share gets in, and others end
// for it, as long as calls and connections exceed their part by at most an eighth of the
// total, and everything exceeds the total by at most half. Small replies of others come
// unasked, and may exceed it by more than an eighth.
func (e *Entry) Enter(n int64) bool {
	a := e.account
	if !a.fits(Fixed, n) {
		if e.Owner().all()+n > a.share(Fixed) {
			return false
		}
		a.borrow(e.Owner()) // also if this one is refused: then the next one gets in
		if total := a.total.Load(); a.fixed.Load()+n > total-a.messagesReserve()+total/overrunPart || a.Held()+n > total+total/2 {
			return false
		}
	}
	a.add(e.Owner(), Fixed, n)
	e.keep(Fixed, n)
	return true
}

// reserve waits for room and counts it to the entry.
func (e *Entry) reserve(ctx context.Context, of Class, n int) error {
	if of == Small && e.takeSmall(int64(n)) {
		return nil
	}
	e.waits.Add(1)
	defer e.waits.Add(-1)
	var since time.Time
	err := e.account.await(ctx, e.Owner(), of, int64(n), Patience, &since)
	if t := e.trace.Load(); t != nil && !since.IsZero() {
		t.Waited(report.WaitedForRoom, since)
	}
	if err != nil {
		return err
	}
	if of == Small {
		e.keepSmall(int64(n), int64(n))
	} else {
		e.keep(of, int64(n))
	}
	return nil
}

// keep notes bytes that the account has counted. After Settle nothing would give them
// back.
func (e *Entry) keep(of Class, n int64) {
	if e.held[of].Add(n) < 0 {
		e.account.release(e.Owner(), of, n)
	}
}

// Add counts without waiting. After Settle it counts nothing.
func (e *Entry) Add(of Class, n int) {
	if of == Small {
		e.addSmall(int64(n))
	} else if e.held[of].Add(int64(n)) >= 0 {
		e.account.add(e.Owner(), of, int64(n))
	}
}

// Buffers returns the account's pool, whose buffers of more than uncountedBytes count with
// the entry while they are out: what a peer that reads slowly leaves in them would count
// nowhere else.
func (e *Entry) Buffers() mem.BufferPool { return buffers{e} }

type buffers struct{ of *Entry }

// uncountedBytes is what a buffer may have as a part of CallBytes or ConnBytes.
const uncountedBytes = 4 << 10

func (b buffers) Get(length int) *[]byte {
	buf := b.of.account.Pool.Get(length)
	if cap(*buf) > uncountedBytes {
		b.of.Add(Small, cap(*buf))
	}
	return buf
}

func (b buffers) Put(buf *[]byte) {
	if cap(*buf) > uncountedBytes {
		b.of.Sub(Small, cap(*buf))
		b.of.Trim() // what was counted ahead for the buffer: a call counts ahead anew for its next message
	}
	b.of.account.Pool.Put(buf)
}

// Unread counts n more bytes, or fewer if n is negative, that a client has sent and
// nobody has read. It returns false if the call must end: the account is far over its
// bound, and the address over its share.
func (e *Entry) Unread(n int) bool {
	if n <= 0 {
		e.Sub(Small, -n)
		return true
	}
	e.Add(Small, n)
	a := e.account
	used, most, total := a.used.Load(), a.Messages(), a.total.Load()
	far := used > most+most/overrunPart || used+a.fixed.Load() > total+total/overrunPart
	over := e.held[Small].Load() < 0 // it is settled
	return !far || over || a.within(e.Owner(), Small, 0)
}

// overrunPart is the part of a bound that data sent unasked may exceed it by.
const overrunPart = 8

// Sub gives back bytes that Add or a reservation has counted.
func (e *Entry) Sub(of Class, n int) {
	if of == Small {
		e.addSmall(-int64(n))
	} else if e.held[of].Add(-int64(n)) >= 0 {
		e.account.release(e.Owner(), of, int64(n))
	}
}

// RequestClass returns the class of a request of this size.
func RequestClass(bytes int) Class {
	if bytes > SmallBytes {
		return Request
	}
	return Small
}

// ClassOf returns the class of a reply that culvert holds decompressed, converted, or until
// its call ends.
func ClassOf(bytes int) Class {
	if bytes > SmallBytes {
		return Reply
	}
	return Small
}

// maxExpanded is how many large replies that came out of gzip may wait for room: they
// are held while they wait, since no window could withhold them.
const maxExpanded = 4

// Expanded counts such a reply as soon as there is room.
func (e *Entry) Expanded(ctx context.Context, n int) error {
	a := e.account
	defer a.expanding.Add(-1)
	if a.expanding.Add(1) > maxExpanded && (a.queue[Reply].Load() > 0 || !a.fits(Reply, int64(n))) {
		return a.NoRoom(int64(n))
	}
	return e.reserve(ctx, Reply, n)
}

// SettleMessages gives back the bytes of messages still in use. After it, no messages
// are counted.
func (e *Entry) SettleMessages() {
	for of := range Fixed {
		e.settle(of)
	}
}

// Settle gives back everything still in use. After it, nothing is counted.
func (e *Entry) Settle() {
	e.SettleMessages()
	e.settle(Fixed)
}

func (e *Entry) settle(of Class) {
	n := e.held[of].Swap(settled)
	if of == Small {
		n = e.paid.Swap(settled)
	}
	if n > 0 {
		e.account.release(e.Owner(), of, n)
	}
}
