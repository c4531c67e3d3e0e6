package memory

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/buffer"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// An Account counts what is held for all clients together, and bounds it twice:
// the bytes of messages, and those with the cost of calls and connections.
//
// Everything that is counted has an owner: an [Entry] is a call's or a connection's, and counts
// with an [Address]. Small messages (up to 64 KiB of one) may use all the room
// there is; large ones have a share each way, so that stalled bulk stops neither
// conversations nor the bulk of the other direction. A request's bytes are reserved
// before they are read; where room is scarce, all the rest of a message at once, so
// that whoever holds a part can finish it. Those of a large reply are reserved
// before the upstream may send them (bridge/upstream/grant.go).
//
// A message without room waits. The wait is short for an address that holds less than
// its share: it goes before those that hold more, and OnPressed is told, so that bridge
// ends what Choose names (relief.go).
type Account struct {
	Messages int64 // bytes: limits.buffered_bytes
	Total    int64 // bytes, of messages and all else: what limits.memory leaves for clients

	Pool      mem.BufferPool // of the buffers of messages
	OnPressed func()         // called when something has to end for others; mu may be held, so it must not wait. nil: nobody is told

	used      atomic.Int64          // of messages
	by        [Small]atomic.Int64   // of used: large messages
	fixed     atomic.Int64          // of calls and connections
	queue     [classes]atomic.Int64 // waiters, read without mu on the free path
	sharers   atomic.Int64          // how many addresses share the room, as of the last look
	expanding atomic.Int64          // large replies that have grown out of gzip and ask for room
	blocked   atomic.Bool           // somebody within their share waits for room that any message could take

	ahead int64 // of small messages that an entry counts ahead (ahead.go)

	mu      sync.Mutex
	waiters [classes]waiters
	debt    debt

	unknown Address // of those who have none
}

// A Class of bytes has a share of the account.
type Class int

// The classes: large messages by their direction, those of up to 64 KiB, and, behind
// these, the cost of a call or a connection.
const (
	Request Class = iota
	Reply
	Small
	Fixed
	classes
)

// New returns an account. Without a bound of all (0), messages alone have one.
func New(messages, total int64) *Account {
	if total <= 0 {
		total = boundless
	}
	// The tiers follow the chunks: with grpc-go's own a 64 KiB buffer costs a
	// whole MiB.
	a := &Account{Messages: min(messages, total), Total: total, Pool: buffer.NewPool(256, 1<<10, 2<<10, 4<<10, 8<<10, 16<<10, ChunkBytes, 64<<10, 256<<10, 1<<20)}
	a.sharers.Store(1)
	if a.Messages >= aheadFrom {
		a.ahead = maxAhead
	}
	return a
}

// boundless is more than can be held.
const boundless = 1 << 62

// BoundsAll reports whether there is a bound of all, and not of messages alone.
func (a *Account) BoundsAll() bool { return a.Total < boundless }

// ChunkBytes is the size in which bodies are read.
const ChunkBytes = 32 << 10

// fits reports whether n more bytes may be held. A large message that is the only one
// needs no room but in Total. For a large message mu is held. Others may ask without it:
// by a race some then pass the bound by one message, call or connection.
func (a *Account) fits(of Class, n int64) bool {
	used, fixed := a.used.Load(), a.fixed.Load()
	switch {
	case used+fixed+n > a.Total:
		return false
	case of == Fixed:
		return fixed+n <= a.Total-a.messagesReserve()
	case of == Small:
		return used+n <= a.Messages
	}
	return a.by[of].Load() == 0 || a.hasPlace(of, n) && used+n <= a.Messages
}

// hasPlace reports whether the class of a large message has room for n more bytes.
func (a *Account) hasPlace(of Class, n int64) bool { return a.by[of].Load()+n <= a.bulk() }

// messagesReserve is what calls and connections leave to messages.
func (a *Account) messagesReserve() int64 { return min(a.Messages, a.Total/4) }

// bulk is what large messages of one direction may fill.
func (a *Account) bulk() int64 { return a.Messages / 8 * 3 }

// Roomy reports whether a request of n bytes may have its room in parts: requests fill
// less than half of their share, and those that have a part can then still have the
// rest, one after the other.
func (a *Account) Roomy(n int) bool {
	return int64(n) <= a.bulk()/4 && a.by[Request].Load() < a.bulk()/2
}

// Used returns how many bytes of messages are held.
func (a *Account) Used() int64 { return a.used.Load() }

// Held returns how many bytes are held in all.
func (a *Account) Held() int64 { return a.used.Load() + a.fixed.Load() }

// add counts bytes to an address, without a look at any bound.
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
		a.grant()
		a.mu.Unlock()
	}
}

// Mutex returns the account's lock, for a watchdog that asks whether it is held
// for ever.
func (a *Account) Mutex() *sync.Mutex { return &a.mu }

// Patience is how long a message waits for room in limits.buffered_bytes.
const Patience = 10 * time.Second

// Full returns the fault of a message that gets no room.
func Full() *report.Fault {
	return report.OverLimit(report.KeyBufferedBytes, report.AnyMoment, "messages of running calls fill the memory for messages")
}
