package bridge

import (
	"net"
	"sync"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A connUse is what a connection counts with, from begin to end.
type connUse struct {
	quotas  *quotas
	of      *listening
	address *address // its own; nil: the connection counts with nobody

	mu    sync.Mutex
	ended bool
}

// begin counts a connection with its address and its listener, or returns why
// it may not begin. The server's own limit is judged by the listener's
// Accept. It is called once, before anything is read.
func (u *connUse) begin(q *quotas, peer string, l *listening) error {
	from := q.addresses.hold(addressKey(peer), q.now())
	if x := q.beginConn(from, l); x != nil {
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
func (q *quotas) beginConn(from *address, l *listening) *excess {
	shares := q.shares(from, l)
	for i, s := range shares {
		x := s.beginConn(l.TLS != nil, q.now)
		if x == nil {
			continue
		}
		for _, before := range shares[:i] {
			before.endConn()
			if l.TLS != nil {
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

// end gives back what the connection counts. It may be called again.
func (u *connUse) end() {
	u.mu.Lock()
	counts := !u.ended && u.address != nil
	u.ended = true
	u.mu.Unlock()
	if counts {
		u.giveBack()
	}
}

func (u *connUse) giveBack() {
	for _, s := range u.quotas.shares(u.address, u.of) {
		s.endConn()
	}
	u.address.holders.Add(-1)
}
