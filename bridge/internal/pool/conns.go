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
	conns    []*slot     // at least one
	streams  int         // MAX_CONCURRENT_STREAMS, as last announced here
	calls    int         // on all its connections that accept calls
	peak     int         // the most of these since the last trim
	open     int         // calls on all its connections, lost ones too
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
	c := &slot{address: a}
	if !c.makeSub() {
		return
	}
	a.conns = append(a.conns, c)
	c.sub.Connect()
	if len(a.conns) > 1 {
		a.pool.startTrimming()
	}
}

// makeSub gives c a SubConn. It returns false if the pool is being closed. mu is held.
//
//nolint:contextcheck // a connection outlives the call that needs it
func (c *slot) makeSub() bool {
	addresses := slices.Clone(c.address.endpoint.Addresses)
	for i := range addresses {
		addresses[i].Attributes = addresses[i].Attributes.WithValue(slotKey{}, c)
	}
	var sub balancer.SubConn
	listener := func(s balancer.SubConnState) { c.changed(sub, s) }                                          // not before sub.Connect
	sub, err := c.address.pool.cc.NewSubConn(addresses, balancer.NewSubConnOptions{StateListener: listener}) //nolint:staticcheck // deprecated for several addresses alone, and an endpoint of DNS has one
	if err != nil {
		return false
	}
	c.sub = sub
	return true
}

// dial connects. A SubConn that has had a connection for calls is replaced: a call that was
// to begin on that connection must not begin on another one, which doesn't expect it. mu is
// held.
func (c *slot) dial() {
	if c.next != nil && c.next.lost {
		used := c.sub
		if !c.makeSub() {
			return
		}
		c.next = nil
		c.address.pool.unused = append(c.address.pool.unused, used)
	}
	c.sub.Connect()
}

// changed follows the state of one connection.
func (c *slot) changed(sub balancer.SubConn, s balancer.SubConnState) {
	p := c.address.pool
	defer p.panics.Catch("the balancer", func(*report.Fault) {
		p.mu.Lock()
		defer p.unlock()
		c.restart()
	})
	p.mu.Lock()
	defer p.unlock()
	if c.closed || sub != c.sub {
		return
	}
	switch s.ConnectivityState {
	case connectivity.Ready:
		p.readied.Add(1)
		c.conn, c.failure = c.next, nil
		c.why.Store(nil) // of another address of the endpoint
		c.conn.supervise()
		c.address.streams = c.conn.places()
	case connectivity.TransientFailure:
		c.lose()
		c.failure = c.whyFailed(s.ConnectionError)
	case connectivity.Idle: // it was lost, or the wait after a failure is over
		c.lose()
		if p.queue.Len() == 0 && c.address.hasOther(c) {
			c.close()
		} else {
			c.reconnect(c.next.pause())
		}
	default:
	}
	p.publish()
}

// reconnect connects again after the pause. mu is held.
func (c *slot) reconnect(pause time.Duration) {
	c.address.pool.stop(c.pause)
	c.pause = nil
	if pause <= 0 {
		c.dial()
		return
	}
	c.pause = c.address.pool.after(pause, func() {
		c.pause = nil
		if !c.closed {
			c.dial()
		}
	})
}

// accepts reports whether c accepts calls. mu is held.
func (c *slot) accepts() bool { return c.conn != nil && c.conn.serving }

// accepts reports whether any connection to the address accepts calls. mu is held.
func (a *address) accepts() bool {
	return slices.ContainsFunc(a.conns, (*slot).accepts)
}

// hasRoom reports whether a call can begin at the address now. mu is held.
func (a *address) hasRoom() bool {
	return slices.ContainsFunc(a.conns, func(c *slot) bool { return c.accepts() && c.conn.calls < c.conn.places() })
}

// isFull reports whether no call can begin at the address now. mu is held.
func (a *address) isFull() bool { return !a.hasRoom() }

// hasOther reports whether the address can do without c. mu is held.
func (a *address) hasOther(c *slot) bool {
	return slices.ContainsFunc(a.conns, func(other *slot) bool {
		return other != c && other.failure == nil
	})
}

// lose forgets a connection that accepts no further calls. The calls on it may
// continue: their places are gone in any case. mu is held.
func (c *slot) lose() {
	if c.conn == nil {
		return
	}
	c.conn.stopCheck()
	c.conn.lost = true
	c.conn.wire.Leave()
	c.address.calls -= c.conn.calls
	c.conn, c.spare, c.failure = nil, false, nil
}

// close gives up c. mu is held.
func (c *slot) close() {
	c.lose()
	c.closed = true
	c.address.pool.stop(c.pause)
	a := c.address
	a.conns = slices.DeleteFunc(slices.Clone(a.conns), func(other *slot) bool { return other == c })
	a.pool.unused = append(a.pool.unused, c.sub)
}
