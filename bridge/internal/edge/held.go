package edge

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// A HeldConn is an open connection with the memory that counts for itself, without its
// calls.
type HeldConn struct {
	Entry     *memory.Entry // as Conn.Held returns it
	Bytes     int64
	Peer      string
	Listener  string // its name
	Transport string // as in Tally
}

// Heaviest returns the connections that hold most themselves, at most so many. It holds the
// lock that connections begin and end with only while it lists them.
func (e *Edge) Heaviest(most int) []HeldConn {
	top := make([]weighed, 0, most)
	for _, c := range e.clients.list() {
		w := weighed{c, c.idle.held.Total()}
		at, _ := slices.BinarySearchFunc(top, w, weighed.compare)
		switch {
		case len(top) < most:
			top = slices.Insert(top, at, w)
		case at < most:
			copy(top[at+1:], top[at:])
			top[at] = w
		}
	}
	all := make([]HeldConn, 0, len(top))
	for _, w := range top {
		on := &w.conn.on
		held := HeldConn{Entry: w.conn.idle.held, Bytes: w.bytes, Peer: w.conn.address().String(), Listener: on.listening.Name}
		if k := kind(on.kind.Load()); k < kindGone {
			held.Transport = kindNames[k]
		}
		all = append(all, held)
	}
	return all
}

// A weighed is a connection with its memory at one moment.
type weighed struct {
	conn  *clientConn
	bytes int64
}

// compare orders those with most first. Most connections hold the same, and two lists of them
// should agree.
func (w weighed) compare(with weighed) int {
	if w.bytes != with.bytes {
		return cmp.Compare(with.bytes, w.bytes)
	}
	return socketOf(w.conn.address()).Compare(socketOf(with.conn.address()))
}

// socketOf returns the address and port of a client, or zero if it has none.
func socketOf(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}
