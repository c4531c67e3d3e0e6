package quota

import (
	"net"
	"sync"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Conn is what a connection counts with, from Begin to End.
type Conn struct {
	quotas  *Limiter
	of      *Scope   // its listener
	address *Address // its own; nil: the connection counts with nobody

	mu    sync.Mutex
	ended bool
}

// Begin counts a connection with its address and its listener, or returns why
// it may not begin. The server's own limit is judged by the listener's
// Accept. With tls the connection begins with a handshake, which counts too.
// Begin is called once, before anything is read.
func (u *Conn) Begin(q *Limiter, peer string, l *Scope, tls bool) error {
	from := q.addresses.hold(addressKey(peer), q.now())
	if x := q.beginConn(from, l, tls); x != nil {
		from.holders.Add(-1)
		return q.refuse(x, peer, "")
	}
	u.mu.Lock()
	ended := u.ended
	u.quotas, u.of, u.address = q, l, from
	u.mu.Unlock()
	if ended {
		u.giveBack()
		return net.ErrClosed
	}
	return nil
}

// beginConn counts a connection, or says why it may not begin: then it counts
// nothing, as with calls.
func (q *Limiter) beginConn(from *Address, l *Scope, tls bool) *excess {
	shares := q.shares(from, l)
	for i, s := range shares {
		x := s.beginConn(tls, q.now)
		if x == nil {
			continue
		}
		for _, before := range shares[:i] {
			before.endConn()
			if tls {
				before.shaking.give(before.rules.handshakes)
			}
		}
		return x
	}
	return nil
}

func (s share) beginConn(tls bool, now clock) *excess {
	if limit := s.rules.connections; limit > 0 && !enter(&s.tally.connections, limit) {
		return s.excess("connections", report.AnyMoment, "%d connections%s are open, which is the limit", limit)
	}
	if !tls {
		return nil
	}
	if wait := s.shaking.take(s.rules.handshakes, now); wait > 0 {
		s.endConn()
		return s.excess("handshakes_per_second", wait, "more than %d TLS handshakes%s begin within a second", s.rules.handshakes)
	}
	return nil
}

// endConn counts a connection less.
func (s share) endConn() {
	if s.rules.connections > 0 {
		s.tally.connections.Add(-1)
	}
}

// End gives back what the connection counts. It may be called again.
func (u *Conn) End() {
	u.mu.Lock()
	counts := !u.ended && u.address != nil
	u.ended = true
	u.mu.Unlock()
	if counts {
		u.giveBack()
	}
}

// From returns what the connection's address uses. It is nil before Begin.
func (u *Conn) From() *Address { return u.address }

func (u *Conn) giveBack() {
	for _, s := range u.quotas.shares(u.address, u.of) {
		s.endConn()
	}
	u.address.holders.Add(-1)
}
