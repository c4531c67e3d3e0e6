package pool

import (
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An address is one address of the backend. The pool's mu guards its fields.
type address struct {
	pool     *Pool
	key      string
	endpoint resolver.Endpoint
	index    int         // in pool.addresses, and every choice of them has this order
	failing  bool        // its health check, when it was last known
	avoided  *time.Timer // while others get its calls, since it has refused one; nil: it isn't avoided
	slots    []*slot     // at least one
	streams  int         // MAX_CONCURRENT_STREAMS, as last announced here
	calls    int         // on all its connections that accept calls
	peak     int         // the most of these since the last trim
	open     int         // calls on all its connections, lost ones too
	picks    int64       // calls that have got a place so far
}

// A slot is a connection to an address, including the connections that replace
// it when it is lost. The pool's mu guards its fields.
type slot struct {
	address *address
	sub     balancer.SubConn
	conn    *conn                 // the connection that accepts calls; nil: there is none
	next    *conn                 // the connection whose handshake ended last
	why     atomic.Pointer[error] // why the attempt to connect that is being made fails; not guarded
	failure error                 // of the last attempt or, if there is a connection, of its health check, until one succeeds
	spare   bool                  // it accepts calls only when the others are full
	pause   *time.Timer           // before it connects again; nil: it doesn't wait
	closed  bool
}

// slotKey is the address attribute that gives a handshake its connection.
type slotKey struct{}

// connect opens a further connection. mu is held.
func (a *address) connect() {
	s := &slot{address: a}
	if !s.makeSub() {
		return
	}
	a.slots = append(a.slots, s)
	s.sub.Connect()
	if len(a.slots) > 1 {
		a.pool.startTrimming()
	}
}

// makeSub gives s a SubConn. It returns false if the pool is being closed. mu is held.
//
//nolint:contextcheck // a connection outlives the call that needs it
func (s *slot) makeSub() bool {
	addresses := slices.Clone(s.address.endpoint.Addresses)
	for i := range addresses {
		addresses[i].Attributes = addresses[i].Attributes.WithValue(slotKey{}, s)
	}
	var sub balancer.SubConn
	listener := func(state balancer.SubConnState) { s.changed(sub, state) }                                  // not before sub.Connect
	sub, err := s.address.pool.cc.NewSubConn(addresses, balancer.NewSubConnOptions{StateListener: listener}) //nolint:staticcheck // deprecated for several addresses alone, and an endpoint of DNS has one
	if err != nil {
		return false
	}
	s.sub = sub
	return true
}

// dial connects. A SubConn that has had a connection for calls is replaced: a call that was
// to begin on that connection must not begin on another one, which doesn't expect it. mu is
// held.
func (s *slot) dial() {
	if s.next != nil && s.next.lost {
		used := s.sub
		if !s.makeSub() {
			return
		}
		s.next = nil
		s.address.pool.unused = append(s.address.pool.unused, used)
	}
	s.sub.Connect()
}

// changed follows the state of one connection.
func (s *slot) changed(sub balancer.SubConn, state balancer.SubConnState) {
	p := s.address.pool
	defer p.panics.Catch("the balancer", func(*report.Fault) {
		p.mu.Lock()
		defer p.unlock()
		s.restart()
	})
	p.mu.Lock()
	defer p.unlock()
	if s.closed || sub != s.sub {
		return
	}
	switch state.ConnectivityState {
	case connectivity.Ready:
		p.readied.Add(1)
		s.conn, s.failure = s.next, nil
		s.why.Store(nil) // of another address of the endpoint
		s.conn.supervise()
		s.conn.accompany()
		s.address.streams = s.conn.places()
	case connectivity.TransientFailure:
		s.lose()
		s.failure = s.whyFailed(state.ConnectionError)
	case connectivity.Idle: // it was lost, or the wait after a failure is over
		s.lose()
		if p.queue.Len() == 0 && s.address.hasOther(s) {
			s.close()
		} else {
			s.reconnect(s.next.pause())
		}
	default:
	}
	p.publish()
}

// reconnect connects again after the pause. mu is held.
func (s *slot) reconnect(pause time.Duration) {
	s.address.pool.stop(s.pause)
	s.pause = nil
	if pause <= 0 {
		s.dial()
		return
	}
	s.pause = s.address.pool.after(pause, func() {
		s.pause = nil
		if !s.closed {
			s.dial()
		}
	})
}

// accepts reports whether s accepts calls. mu is held.
func (s *slot) accepts() bool { return s.conn != nil && s.conn.serving }

// accepts reports whether any connection to the address accepts calls. mu is held.
func (a *address) accepts() bool {
	return slices.ContainsFunc(a.slots, (*slot).accepts)
}

// hasRoom reports whether a call can begin at the address now. mu is held.
func (a *address) hasRoom() bool {
	return slices.ContainsFunc(a.slots, func(s *slot) bool { return s.accepts() && s.conn.calls < s.conn.places() })
}

// isFull reports whether no call can begin at the address now. mu is held.
func (a *address) isFull() bool { return !a.hasRoom() }

// hasOther reports whether the address can do without s. mu is held.
func (a *address) hasOther(s *slot) bool {
	return slices.ContainsFunc(a.slots, func(other *slot) bool {
		return other != s && other.failure == nil
	})
}

// lose forgets a connection that accepts no further calls. The calls on it may
// continue: their places are gone in any case. mu is held.
func (s *slot) lose() {
	if s.conn == nil {
		return
	}
	s.conn.stopCheck()
	if s.conn.dismiss != nil {
		s.conn.dismiss() // the companion's goroutine ends later
	}
	s.conn.lost = true
	s.conn.wire.Leave()
	s.address.calls -= s.conn.calls
	s.conn, s.spare, s.failure = nil, false, nil
}

// close gives up s. mu is held.
func (s *slot) close() {
	s.lose()
	s.closed = true
	s.address.pool.stop(s.pause)
	a := s.address
	a.slots = slices.DeleteFunc(slices.Clone(a.slots), func(other *slot) bool { return other == s })
	a.pool.unused = append(a.pool.unused, s.sub)
}
