package memory

import "sync/atomic"

// An Address is what one client address holds, and what it waits for.
type Address struct {
	held  [classes]atomic.Int64
	asked atomic.Int64 // of any class: there may be millions of addresses
}

// Messages returns how many bytes of messages the address holds.
func (o *Address) Messages() int64 {
	return o.held[Request].Load() + o.held[Reply].Load() + o.held[Small].Load()
}

// Held returns how many bytes of everything the address holds.
func (o *Address) Held() int64 { return o.Messages() + o.held[Fixed].Load() }

// claims is Held with what the address waits for.
func (o *Address) claims() int64 { return o.Held() + o.asked.Load() }

// Share returns how many bytes of a kind (see Kinds) each address may hold while others
// wait for some. A quarter of the room is nobody's: with all of it in shares that are
// used, nothing that comes for others would get on.
func (a *Account) Share(kind Class) int64 {
	sharers := a.sharers.Load()
	switch {
	case kind == Fixed:
		return (a.Total - a.messagesReserve()) / sharers
	case sharers == 1:
		return a.Messages
	case kind == Small:
		return a.Messages / 4 * 3 / sharers
	default:
		return a.bulk() / 4 * 3 / sharers
	}
}

// Alone reports whether there is only one address to use the room.
func (a *Account) Alone() bool { return a.sharers.Load() == 1 }

// SetSharers says how many addresses there are to share the room.
func (a *Account) SetSharers(n int) { a.sharers.Store(int64(max(n, 1))) }

// within reports whether the address may have n more bytes of a message and holds no
// more than its share. What it waits for counts, else all that it asks for at one time
// would be within.
func (a *Account) within(o *Address, of Class, n int64) bool {
	if o == &a.unknown {
		return true
	}
	n += o.asked.Load()
	if of < Small && o.held[of].Load()+n > a.Share(of) {
		return false
	}
	return o.Messages()+n <= a.Share(Small) && o.Held()+n <= a.Share(Fixed)
}
