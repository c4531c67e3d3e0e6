package quota

import (
	"net"
	"sync"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Conn is a connection's usage, from Begin to End.
type Conn struct {
	quotas  *Limiter
	of      *Scope   // its listener
	address *Address // its own; nil before Begin
	free    bool     // it is over a limit that is only tried out: no limit counts it, only its address's memory does

	mu    sync.Mutex
	ended bool
	held  *memory.Entry // nil: nothing
}

// Begin counts a connection with its address and its listener, or returns why the
// connection is refused. The listener's Accept judges the server's own limit. With
// tls the connection begins with a handshake, which counts too. Begin is called once,
// before anything is read.
func (u *Conn) Begin(q *Limiter, peer string, l *Scope, tls bool) error {
	from := q.addresses.hold(addressKey(peer), q.now())
	x := q.beginConn(from, l, tls)
	if x != nil {
		if err := q.refuse(x, peer, ""); err != nil {
			from.holders.Add(-1)
			return err
		}
	}
	u.mu.Lock()
	ended := u.ended
	u.quotas, u.of, u.address, u.free = q, l, from, x != nil
	u.mu.Unlock()
	if ended {
		u.giveBack()
		return net.ErrClosed
	}
	return nil
}

func (q *Limiter) beginConn(from *Address, l *Scope, tls bool) *report.Fault {
	take, give := Scope.beginConn, Scope.endConn
	if tls {
		take, give = Scope.beginTLS, Scope.cancelTLS
	}
	shares := q.shares(from, l)
	return takeAll(shares[:], q.now, take, give)
}

// beginConn counts a connection, or returns why it is refused: then it counts
// nothing.
func (s Scope) beginConn(clock) *report.Fault {
	if limit := s.bounds.connections; !enter(&s.tally.connections, limit) {
		return s.excess("connections", report.AnyMoment, "%d connections%s are open, which is the limit", limit)
	}
	return nil
}

// beginTLS is beginConn for a connection that begins with a handshake, which
// counts too.
func (s Scope) beginTLS(now clock) *report.Fault {
	if x := s.beginConn(now); x != nil {
		return x
	}
	if wait := s.shaking.take(s.handshakes, now); wait > 0 {
		s.endConn()
		return s.excess("handshakes_per_second", wait, "more than %d TLS handshakes%s begin within a second", s.handshakes)
	}
	return nil
}

func (s Scope) cancelTLS() {
	s.endConn()
	s.shaking.give(s.handshakes)
}

func (s Scope) endConn() { s.tally.connections.Add(-1) }

// End gives back the connection's usage. It may be called again.
func (u *Conn) End() {
	u.mu.Lock()
	counts := !u.ended && u.address != nil
	held := u.held
	u.ended, u.held = true, nil
	u.mu.Unlock()
	if held != nil {
		held.Settle()
	}
	if counts {
		u.giveBack()
	}
}

// Hold counts bytes, with the connection's address, that the connection holds until
// End. It returns nil if there is no room for them. It is called once, after Begin.
func (u *Conn) Hold(a *memory.Account, n int64) *memory.Entry {
	held := a.NewEntry()
	held.Own(&u.address.memory)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return held // it is closed, and told so
	}
	if !held.Enter(n) {
		return nil
	}
	u.held = held
	return held
}

// From returns the usage of the connection's address. It is nil before Begin.
func (u *Conn) From() *Address { return u.address }

func (u *Conn) giveBack() {
	if !u.free {
		for _, s := range u.quotas.shares(u.address, u.of) {
			s.endConn()
		}
	}
	u.address.holders.Add(-1)
}
