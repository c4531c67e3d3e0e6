package wire

import (
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// A credit is an update of the connection's window that waits for room. The room is
// given back when the update is sent: the window counts for as long as the connection
// lasts.
type credit struct {
	waiter *memory.Waiter
	left   atomic.Int64 // bytes that wait
}

// askCredit reports whether the backend may have the increment of the connection's
// window now. If there isn't room for all of it, the rest waits until there is.
func (c *Conn) askCredit(f h2Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began { // behind the SETTINGS of grpc-go
		c.began = true // this releases the bytes that NewConn has counted
		c.out.before = streamWindowSetting
		return true
	}
	if c.closed.Err() != nil {
		return true
	}
	paid := min(c.covered, int64(f.increment))
	c.covered -= paid
	c.unasked -= int64(f.increment)
	rest := int64(f.increment) - paid
	if rest == 0 || c.account.Spares(rest) {
		return true
	}
	cr := new(credit)
	cr.left.Store(rest)
	w, atOnce := c.account.Ask(nil, memory.Small, rest, func() {
		if n := cr.left.Swap(0); n > 0 { // the part of the update that still waits
			c.offer(ownFrame{windowUpdate(0, n), func() { c.giveBack(cr) }})
		}
	})
	if atOnce {
		c.account.Drop(w)
		return true
	}
	cr.waiter = w
	c.credits[cr] = struct{}{}
	if paid > 0 {
		c.offer(ownFrame{bytes: windowUpdate(0, paid)})
	}
	return false
}

// cover notes bytes of a message that already has its room: the connection's window
// gets the same number back without any, if so many have arrived. mu is held.
func (c *Conn) cover(n int64) {
	n -= c.payCredits(n)
	c.covered = min(c.covered+n, c.unasked)
}

// payCredits gives back n bytes of the connection's window, or as many as wait for room. It
// returns how many. mu is held.
func (c *Conn) payCredits(n int64) (paid int64) {
	for cr := range c.credits {
		left := cr.left.Load()
		part := min(n-paid, left)
		if part <= 0 || !cr.left.CompareAndSwap(left, left-part) {
			continue // there is room for it now
		}
		paid += part
		c.offer(ownFrame{bytes: windowUpdate(0, part)})
		if part == left {
			delete(c.credits, cr)
			c.account.Drop(cr.waiter)
		}
	}
	return paid
}

// giveBack ends the wait of a credit.
func (c *Conn) giveBack(cr *credit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, waits := c.credits[cr]; waits {
		delete(c.credits, cr)
		c.account.Drop(cr.waiter)
	}
}
