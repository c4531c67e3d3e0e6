package bridge

import (
	"net"
	"sync"
)

// A connUse is what a connection counts with, from begin to end.
type connUse struct {
	address  *address // its own; nil until begin
	listener *scope   // nil: not counted with it

	mu    sync.Mutex
	ended bool
}

// begin counts a connection with its address and its listener, or returns why
// it may not begin. The server's own limit is judged by the listener's
// Accept. It is called once, before anything is read.
func (u *connUse) begin(q *quotas, peer string, l *listening) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return net.ErrClosed
	}
	now := q.now()
	u.address = q.addresses.hold(addressKey(peer), now)
	u.address.connections.Add(1)
	u.listener = l.scope
	u.listener.tally.connections.Add(1)
	for _, s := range q.shares(u.address, l) {
		x := s.connExcess(l.TLS != nil, now)
		if x == nil {
			continue
		}
		if err := q.refuse(x, peer, ""); err != nil {
			return err
		}
	}
	return nil
}

// connExcess looks at a connection that is counted.
func (s share) connExcess(tls bool, now int64) *excess {
	if limit := s.rules.connections; limit > 0 && s.tally.connections.Load() > limit {
		return s.excess("connections", anyMoment, "%d connections%s are open, which is the limit", limit)
	}
	if !tls {
		return nil
	}
	if wait := s.shaking.take(s.rules.handshakes, now); wait > 0 {
		return s.excess("handshakes_per_second", wait, "more than %d TLS handshakes%s begin within a second", s.rules.handshakes)
	}
	return nil
}

// end gives back what the connection counts. It may be called again.
func (u *connUse) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended || u.address == nil {
		u.ended = true
		return
	}
	u.ended = true
	u.listener.tally.connections.Add(-1)
	u.address.connections.Add(-1)
	u.address.holders.Add(-1)
}
