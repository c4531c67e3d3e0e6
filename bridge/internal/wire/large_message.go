package wire

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// A grant is the room that one stream's large message has, or waits for. The room
// belongs to the call: the bytes of the message that have arrived stay counted with
// it, and the rest is given back when it can no longer arrive.
type grant struct {
	flow   *Flow          // of the call; nil: not known, and the room is the connection's
	waiter *memory.Waiter // until the grant is open
	waits  bool           // flow knows that its call waits
	long   *time.Timer    // for judgeWait, while waits is true
	sent   atomic.Bool    // its WINDOW_UPDATE is on its way
	open   bool           // the backend may get its WINDOW_UPDATE at any time
	left   int64          // bytes that must arrive before the rest fits the window that the stream had
	rest   int64          // bytes after left that may be of the message
	more   int64          // the increment of the WINDOW_UPDATE
}

// askRoom asks for the room of the n bytes of a stream's large message that don't fit the
// window of the stream, and reports whether it got the room. The window grows by these, or by
// more. mu is held.
func (c *Conn) askRoom(stream uint32, s *stream, n, more int64) bool {
	// The large message before has arrived, and was taken.
	c.drop(s)
	c.window.Sub(memory.Reply, int(s.large))
	s.large = 0
	g := &grant{flow: s.flow, left: n, rest: s.window, more: more}
	s.grant = g
	var owner *memory.Entry
	if g.flow != nil {
		owner = g.flow.entry
	}
	w, atOnce := c.account.Ask(owner, memory.Reply, n, func() {
		if g.sent.CompareAndSwap(false, true) {
			c.offer(ownFrame{windowUpdate(stream, g.more), func() { c.letIn(stream, g) }})
		}
	})
	g.waiter = w
	if atOnce {
		g.sent.Store(true)
		c.open(g, s.messages.arrived())
		return true
	}
	if g.flow != nil {
		g.waits = true
		g.flow.entry.NoteWaiting(1)
		g.long = time.AfterFunc(memory.Patience, func() { c.judgeWait(g, n) })
	}
	return false
}

// judgeWait ends the call of a message of n bytes that has waited for long, if it gets in
// only while there is no other one, or not at all: a reload may have lowered the limit
// since it asked.
func (c *Conn) judgeWait(g *grant, n int64) {
	defer c.Catch()
	if giveUp := c.waitsInVain(g, n); giveUp != nil {
		giveUp(c.account.NoRoom(n))
	}
}

// waitsInVain returns what ends the call if it does.
func (c *Conn) waitsInVain(g *grant, n int64) context.CancelCauseFunc {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !g.waits || g.sent.Load():
	case c.account.NeedsAll(memory.Reply, n):
		return g.flow.giveUp
	default:
		g.long.Reset(memory.Patience)
	}
	return nil
}

// letIn opens a grant whose update is about to be sent.
func (c *Conn) letIn(stream uint32, g *grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[stream]
	if !open || s.grant != g {
		return
	}
	c.open(g, s.messages.arrived())
	s.give(g.more)
	c.offerMore(stream, &s)
	c.streams[stream] = s
}

// open counts the bytes of a message that are still on their way. mu is held.
func (c *Conn) open(g *grant, arrived int64) {
	g.open = true
	c.payer(g).Promise(g.left)
	c.stopWaiting(g)
	c.cover(min(arrived, StreamWindow))
}

// payer returns the entry that the grant counts with. mu is held.
func (c *Conn) payer(g *grant) *memory.Entry {
	if g.flow != nil {
		return g.flow.entry
	}
	return c.window
}

// stopWaiting removes a grant from the account's queue, or gives back its reservation
// there. mu is held.
func (c *Conn) stopWaiting(g *grant) {
	c.account.Drop(g.waiter)
	if g.waits { // the call waits no longer
		g.waits = false
		g.long.Stop()
		g.flow.entry.NoteWaiting(-1)
	}
}

// takeFromGrant counts n bytes of DATA, and returns how many of them the stream's grant
// counts. The connection gets its window back for these, and for the rest of the message.
// mu is held.
func (c *Conn) takeFromGrant(s *stream, n int64) int64 {
	g := s.grant
	if g == nil || !g.open {
		return 0
	}
	if g.left == 0 && g.flow != nil && g.flow.Waiting() == 0 { // the message is sent on
		s.grant = nil
		return 0
	}
	granted := min(n, g.left)
	rest := min(n-granted, g.rest)
	g.left -= granted
	g.rest -= rest
	c.payer(g).Came(granted)
	c.cover(granted + rest)
	if g.flow != nil {
		g.flow.large.Add(granted)
	} else {
		s.large += granted
	}
	if g.left+g.rest == 0 {
		s.grant = nil
	}
	return granted
}

// drop ends a stream's grant. mu is held.
func (c *Conn) drop(s *stream) {
	g := s.grant
	switch {
	case g == nil:
		return
	case g.open:
		c.payer(g).Break(g.left)
	default:
		c.stopWaiting(g)
	}
	s.grant = nil
}
