package pool

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// maxPlaces bounds the places on a connection, so that their sum doesn't overflow.
const maxPlaces = 1 << 20

// A conn is one HTTP/2 connection to the backend, with its places. The pool's
// mu guards its fields.
type conn struct {
	slot  *slot
	sub   balancer.SubConn // that has this connection, and no other one that calls begin on; never changes
	max   int              // MAX_CONCURRENT_STREAMS
	calls int              // calls that have a place
	used  bool             // a call has had a place
	lost  bool             // it accepts no further calls
	health
	began time.Time

	companion func(context.Context, grpc.ClientConnInterface) // of the one who has opened it; nil: there is none
	dismiss   context.CancelFunc                              // ends it; nil: it doesn't run

	wire *wire.Conn // never changes
}

// newConn returns the connection of a finished handshake. It returns nil if the
// context isn't one of a pool's connection.
func newConn(ctx context.Context, wire *wire.Conn) *conn {
	s := slotOf(ctx)
	if s == nil {
		return nil
	}
	c := &conn{slot: s, wire: wire, max: maxPlaces, began: time.Now()} // RFC 9113 §6.5.2: initially, there is no limit
	p := s.address.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	c.sub, s.next = s.sub, c
	return c
}

// unusedPause is the interval between connections to an address whose backend ends
// them before any call. grpc-go pauses only after failed attempts.
const unusedPause = time.Second

// pause returns how long to wait before the connection that replaces this one. c is
// nil if there was none. The pool's mu is held.
func (c *conn) pause() time.Duration {
	if c == nil || c.used {
		return 0
	}
	return time.Until(c.began.Add(unusedPause))
}

// allow sets the backend's MAX_CONCURRENT_STREAMS.
func (c *conn) allow(streams uint32) {
	p := c.slot.address.pool
	p.mu.Lock()
	defer p.unlock()
	c.max = int(min(streams, maxPlaces))
	if c == c.slot.conn {
		was := c.serving
		c.supervise()
		c.slot.address.streams = c.places()
		if c.serving != was {
			p.publish()
		}
		p.seat()
		p.growOrDismiss()
	}
}

// places returns how many calls may run on the connection at once. The health check has the
// place of one, and so has the companion, unless it is the last one. The pool's mu is held.
func (c *conn) places() int {
	places := c.max
	if c.check != nil {
		places--
	}
	if c.companion != nil && places > 1 {
		places--
	}
	return places
}

// release gives the place of a call back, which the backend may have refused.
func (c *conn) release(refused bool) {
	p := c.slot.address.pool
	defer c.wire.Catch()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.calls--
	c.slot.address.open--
	if refused {
		c.slot.address.avoid()
	}
	if !c.lost {
		c.slot.address.calls--
		p.seat()
	}
}

// A waiter is a call that waits for a place.
type waiter struct {
	refused   []*address // as in Call
	suspended *opening   // whose timer the wait suspends; nil: it has none
	guest     *Call      // of a call that another backend may have room for; nil: it waits until a call ends
	at        *list.Element
	ended     chan struct{} // closed once conn or err is set
	conn      *conn
	err       error
}

// end is called once, with the waiter out of the queue.
func (w *waiter) end(c *conn, err error) {
	w.conn, w.err = c, err
	close(w.ended)
}

// findPlace returns when the call has a place.
func (p *Pool) findPlace(ctx context.Context, k *Call) (*conn, error) {
	c, w, err := p.tryPick(k)
	if w == nil {
		return c, err
	}
	patience := p.config.queueTimeout
	if w.guest != nil {
		patience = min(patience, connectGrace)
	}
	return p.wait(ctx, k, w, patience)
}

// tryPick takes a place, or puts the call among those that wait for one.
func (p *Pool) tryPick(k *Call) (*conn, *waiter, error) {
	var refused []*address
	var o *opening
	p.mu.Lock()
	defer p.mu.Unlock()
	if k != nil {
		k.repick()
		refused, o = k.refused, k.opening
	}
	if len(p.ready) > 0 {
		p.seat() // those that wait come first, unless they can't use what is free
		if c := p.take(refused); c != nil {
			return c, nil, nil
		}
	}
	if p.config.waits != nil {
		p.config.waits()
	}
	if len(p.ready) == 0 && p.failure != nil {
		return nil, nil, p.failure
	}
	if err := p.startWaiting(k); err != nil {
		return nil, nil, err
	}
	if len(p.ready) == 0 {
		return nil, nil, balancer.ErrNoSubConnAvailable
	}
	w := &waiter{refused: refused, ended: make(chan struct{})}
	if o != nil && o.elsewhere {
		w.guest = k
	}
	w.at = p.queue.PushBack(w)
	waits := false
	defer func() {
		if !waits { // a place would be given to nobody
			p.queue.Remove(w.at)
		}
	}()
	if coming := p.grow(); w.guest != nil && coming < p.queue.Len() {
		return nil, nil, p.dismiss(w)
	}
	if o.suspend() {
		w.suspended = o
	}
	waits = true
	return nil, w, nil
}

// startWaiting counts a call that has to wait to begin, or refuses it. mu is held.
func (p *Pool) startWaiting(k *Call) error {
	if k == nil || k.opening == nil || k.opening.waits {
		return nil
	}
	if most := p.config.maxWaiting; p.waiting >= most {
		f := report.Newf(report.ReasonOverloaded, "the backend is full or away, and %d calls wait for it already (%s)", most, report.Named(report.KeyWaitingCalls))
		f.Key = report.KeyWaitingCalls
		k.refusal.Store(f)
		return status.Error(codes.Unavailable, f.Text)
	}
	p.waiting++
	k.opening.waits = true
	if k.Trace.Wants() {
		k.opening.began = time.Now()
	}
	return nil
}

// began notes that a call doesn't wait any more. Whether it has a stream doesn't
// matter.
func (p *Pool) began(o *opening) {
	if o.waits {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting--
	}
}

// take takes a place on the emptiest connection. mu is held.
func (a *address) take(spare bool) *conn {
	var best *conn
	for _, s := range a.slots {
		if c := s.conn; c != nil && c.serving && s.spare == spare && c.calls < c.places() && (best == nil || c.calls < best.calls) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	best.slot.spare, best.used = false, true
	best.calls++
	a.calls++
	a.open++
	a.picks++
	a.peak = max(a.peak, a.calls)
	return best
}

// maxPassed bounds the search for a waiting call that can use a place.
const maxPassed = 1000

// seat gives the free places to waiting calls. It passes over calls that the addresses
// with room have refused. mu is held.
func (p *Pool) seat() {
	if p.queue.Len() == 0 {
		return
	}
	accepting := slices.DeleteFunc(slices.Clone(p.addresses), func(a *address) bool { return !a.accepts() })
	roomy := slices.DeleteFunc(slices.Clone(accepting), (*address).isFull)
	passed := 0
	for e := p.queue.Front(); e != nil && passed < maxPassed && len(roomy) > 0; {
		w, next := e.Value.(*waiter), e.Next()
		var c *conn
		if !w.passes(roomy, accepting) {
			c = p.take(w.refused)
		}
		switch {
		case c != nil:
			p.queue.Remove(e)
			w.end(c, nil)
			roomy = slices.DeleteFunc(roomy, (*address).isFull)
		case len(w.refused) == 0:
			return
		default:
			passed++
		}
		e = next
	}
}

// passes reports whether the addresses with room have refused the call, and another one
// that accepts calls has not.
func (w *waiter) passes(roomy, accepting []*address) bool {
	willing := func(a *address) bool { return !slices.Contains(w.refused, a) }
	return !slices.ContainsFunc(roomy, willing) && (len(w.refused) < len(accepting) || slices.ContainsFunc(accepting, willing))
}

// suspendPatience suspends the patience of waiting calls while there are connections, on
// which they wait for a place. Without any, they wait for a connection as other calls
// do. mu is held.
func (p *Pool) suspendPatience() {
	for e := p.queue.Front(); e != nil; e = e.Next() {
		switch o := e.Value.(*waiter).suspended; {
		case o == nil:
		case len(p.ready) > 0:
			o.suspend()
		default:
			o.resume()
		}
	}
}

// dismiss takes a call out of the queue for whose place another call would have to end:
// another backend may have room. It returns the status. mu is held.
func (p *Pool) dismiss(w *waiter) error {
	p.queue.Remove(w.at)
	f := p.noPlace(0)
	w.guest.refusal.Store(f)
	return status.Error(codes.Unavailable, f.Text)
}

// growOrDismiss opens the connections that the queue needs. It dismisses the calls of
// other backends' routes that get no place on them. mu is held.
func (p *Pool) growOrDismiss() {
	coming := p.grow()
	for e := p.queue.Front(); e != nil; coming-- {
		w := e.Value.(*waiter)
		e = e.Next()
		if w.guest != nil && coming <= 0 {
			w.end(nil, p.dismiss(w))
		}
	}
}

// fail ends the wait of all calls. mu is held.
func (p *Pool) fail(err error) {
	for p.queue.Len() > 0 {
		p.queue.Remove(p.queue.Front()).(*waiter).end(nil, err)
	}
}

// wait returns when the call has its place, or will never get one.
func (p *Pool) wait(ctx context.Context, known *Call, w *waiter, patience time.Duration) (*conn, error) {
	if w.suspended != nil {
		defer w.suspended.resume()
	}
	var err error
	select {
	case <-w.ended:
	case <-ctx.Done():
		err = status.FromContextError(ctx.Err()).Err()
	case <-time.After(patience):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.ended:
		return w.conn, w.err
	default:
		p.queue.Remove(w.at)
	}
	if err == nil {
		f := p.noPlace(patience)
		if known != nil {
			known.refusal.Store(f)
		}
		err = status.Error(codes.Unavailable, f.Text)
	}
	return nil, err
}

// noPlace returns the fault of a call that got no place in time. mu is held.
func (p *Pool) noPlace(patience time.Duration) *report.Fault {
	if len(p.ready) == 0 {
		return noConnection(cmp.Or(p.latest, ErrPatience))
	}
	for _, a := range p.ready {
		if len(a.slots) < p.config.maxConnections {
			f := report.Newf(report.ReasonOverloaded, "all connections to the backend are full, culvert could not open another one, and no call ended within %v (%s)", patience, report.Named(report.KeyQueueTimeout))
			f.Key = report.KeyQueueTimeout
			return f
		}
	}
	f := report.Newf(report.ReasonOverloaded, "all connections to the backend are full, culvert opens at most %d to an address (%s), and no call ended within %v (%s)",
		p.config.maxConnections, report.Named(report.KeyMaxConnections), patience, report.Named(report.KeyQueueTimeout))
	f.Key = report.KeyMaxConnections
	return f
}
