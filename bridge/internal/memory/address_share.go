package memory

import "sync/atomic"

// An Address is the memory that one client address holds and waits for. Calls and connections
// without room are refused in entry.go (Begin, Enter), messages in wait.go (await).
type Address struct {
	held  [classes]atomic.Int64
	asked atomic.Int64 // of any class: there may be millions of addresses
}

// messages returns how many bytes of messages the address holds.
func (o *Address) messages() int64 {
	return o.held[Request].Load() + o.held[Reply].Load() + o.held[Small].Load()
}

// all returns how many bytes of everything the address holds.
func (o *Address) all() int64 { return o.messages() + o.held[Fixed].Load() }

// claims returns all, with the bytes that the address waits for.
func (o *Address) claims() int64 { return o.all() + o.asked.Load() }

// share returns how many bytes of a kind (as in wants) each address may hold while
// others wait for some. A quarter of the room is in no share: if all room were in
// shares that are used, nobody else would make progress.
func (a *Account) share(kind Class) int64 {
	sharers := a.sharers.Load()
	switch {
	case kind == Fixed:
		return part(a.total.Load()-a.messagesReserve(), sharers)
	case sharers == 1:
		return a.Messages()
	case kind == Small:
		return part(a.Messages()/4*3, sharers)
	default:
		return a.bulk() / 4 * 3 / sharers
	}
}

// part returns an address's part of some room, at least as much as a call on a
// connection, or a small message, takes.
func part(room, sharers int64) int64 { return max(room/sharers, min(room/8, leastShare)) }

const leastShare = CallBytes + ConnBytes + TLSBytes + 4<<10

// within reports whether the address would be within its share with n more bytes of a
// message. The bytes that it waits for count, too: it can't ask for many shares at
// once.
func (a *Account) within(o *Address, of Class, n int64) bool {
	if o == &a.unknown {
		return true
	}
	n += o.asked.Load()
	if of < Small && o.held[of].Load()+n > a.share(of) {
		return false
	}
	return o.messages()+n <= a.share(Small) && o.all()+n <= a.share(Fixed)
}
