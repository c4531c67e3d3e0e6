package memory

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/buffer"
)

// An Account counts the memory held for all clients together, and bounds it twice: the
// bytes of messages, and those bytes together with the cost of calls and connections.
//
// Everything that is counted has an owner: an [Entry] belongs to a call or a
// connection, and counts with an [Address]. Small messages may use all the room. Large
// ones (of more than [SmallBytes], or than what an upstream may send unasked) have a share
// each way, so that stalled bulk stops neither conversations nor the bulk of the other
// direction. A request's bytes are reserved before they are read. Where room is scarce,
// all the rest of a message is reserved at once, so that a message that holds a part can
// finish. The bytes of a large reply are reserved before the upstream may send them
// (bridge/internal/wire/large_message.go).
//
// A message without room waits. The wait is short for an address that holds less than
// its share: it goes before those that hold more. The Account then calls OnPressed, so
// that bridge ends the candidates that Choose returns (bridge/evict.go).
type Account struct {
	Pool      mem.BufferPool // of the messages' buffers
	OnPressed func()         // called when something must end to free memory for others; mu may be held, so it must not wait. It may be nil

	messages  atomic.Int64          // bytes that messages may take: limits.buffered_bytes
	total     atomic.Int64          // bytes of everything, messages included: the part of limits.memory for clients
	used      atomic.Int64          // of messages
	by        [Small]atomic.Int64   // of used: large messages
	fixed     atomic.Int64          // of calls and connections
	queue     [classes]atomic.Int64 // waiters, read without mu on the free path
	sharers   atomic.Int64          // how many addresses share the room, at the last look
	expanding atomic.Int64          // large replies that came out of gzip and wait for room
	blocked   atomic.Bool           // somebody within their share waits for room that any message could take

	conversions conversions

	ahead atomic.Int64 // how much of small messages an entry counts ahead (ahead.go)

	mu      sync.Mutex
	waiters [classes]waiters
	debt    debt

	unknown Address // for entries without an address
}

// A Class of bytes has a share of the account.
type Class int

// The classes: large messages by their direction, small messages, and the cost of a call
// or a connection.
const (
	Request Class = iota
	Reply
	Small
	Fixed
	classes
)

// New returns an account. If total is 0, only messages have a bound.
func New(messages, total int64) *Account {
	a := &Account{Pool: buffer.NewPool(256, 1<<20)}
	a.initConversions()
	a.sharers.Store(1)
	a.SetBounds(messages, total)
	return a
}

// Messages returns how many bytes messages may hold.
func (a *Account) Messages() int64 { return a.messages.Load() }

// Total returns how many bytes everything may hold, or 0 if only messages have a bound.
func (a *Account) Total() int64 {
	if total := a.total.Load(); total < boundless {
		return total
	}
	return 0
}

// SetBounds changes New's bounds. If more is held, the account is full until enough has
// been given back.
func (a *Account) SetBounds(messages, total int64) {
	if total <= 0 {
		total = boundless
	}
	messages = min(messages, total)
	ahead := int64(0)
	if messages >= aheadFrom {
		ahead = maxAhead
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.messages.Store(messages)
	a.total.Store(total)
	a.ahead.Store(ahead)
	a.grant()
}

// boundless is more than any process can hold.
const boundless = 1 << 62

// ChunkBytes is the size in which bodies are read.
const ChunkBytes = 32 << 10

// fits reports whether n more bytes may be held. The only large message needs room in
// the total alone. For a large message mu is held. Others may ask without it: in a race
// some then exceed the bound by one message, call or connection.
func (a *Account) fits(of Class, n int64) bool {
	used, fixed, total := a.used.Load(), a.fixed.Load(), a.total.Load()
	switch {
	case used+fixed+n > total:
		return false
	case of == Fixed:
		return fixed+n <= total-a.messagesReserve()
	case of == Small:
		return used+n <= a.Messages()
	}
	return a.by[of].Load() == 0 || a.hasPlace(of, n) && used+n <= a.Messages()
}

// hasPlace reports whether the class of a large message has room for n more bytes.
func (a *Account) hasPlace(of Class, n int64) bool { return a.by[of].Load()+n <= a.bulk() }

// messagesReserve returns the room that calls and connections leave to messages.
func (a *Account) messagesReserve() int64 { return min(a.Messages(), a.total.Load()/4) }

// bulk returns the room for large messages of one direction.
func (a *Account) bulk() int64 { return a.Messages() / 8 * 3 }

// Roomy reports whether a request of n bytes may reserve its room in parts. Then
// requests fill less than half of their share, and those that have a part can still get
// the rest, one after the other.
func (a *Account) Roomy(n int) bool {
	return int64(n) <= a.bulk()/4 && a.by[Request].Load() < a.bulk()/2
}

// Used returns how many bytes of messages are held.
func (a *Account) Used() int64 { return a.used.Load() }

// Held returns how many bytes are held in all.
func (a *Account) Held() int64 { return a.used.Load() + a.fixed.Load() }

// add adds bytes to an address's count, without checking any bound.
func (a *Account) add(o *Address, of Class, n int64) {
	o.held[of].Add(n)
	if of == Fixed {
		a.fixed.Add(n)
		return
	}
	a.used.Add(n)
	if of != Small {
		a.by[of].Add(n)
	}
}

func (a *Account) release(o *Address, of Class, n int64) {
	a.add(o, of, -n)
	if a.awaited() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.grant()
	}
}

// Mutex returns the account's lock, for a watchdog that checks whether it is held for
// ever.
func (a *Account) Mutex() *sync.Mutex { return &a.mu }

// Patience is how long a message waits for room in limits.buffered_bytes.
const Patience = 10 * time.Second

// NoRoom returns the fault of a message that got no room for n bytes in time. n isn't the
// message's size: it is the rest of it, or what it may have after decompression.
func (a *Account) NoRoom(n int64) *report.Fault {
	if n <= a.total.Load() {
		return report.OverLimit(report.KeyBufferedBytes, report.AnyMoment, "messages of running calls fill the memory for messages")
	}
	f := report.OverLimit(report.KeyMemory, 0, "the memory for all clients is less than this message may take")
	f.Remedy = "send smaller messages, raise " + report.Named(report.KeyMemory) + ", or lower " + report.Named(report.KeyMessageBytes) + " for compressed messages"
	return f
}
