package wire

import (
	"context"

	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// Expect notes that the stream of a call is about to begin on the connection. It returns
// false if the connection takes no more calls.
//
// grpc-go doesn't say which stream is a call's. So the id in the request's header
// identifies it. Of several calls with one id, only the first one begins: expect waits until
// the headers of those before have left, or never will. They leave for each stream that
// grpc-go has begun, even if its call has ended, unless the connection takes no more calls.
func (c *Conn) Expect(ctx context.Context, p *Place) (taken bool, err error) {
	if c.queueUp(p) {
		return true, nil
	}
	select {
	case <-p.turn:
	case <-ctx.Done():
		c.GiveUp(p)
		return false, status.FromContextError(ctx.Err()).Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A connection that has ended is taken, by grpc-go, which begins no stream there.
	return c.expected[p.Call.ID] == p || c.closed.Err() != nil, nil
}

// queueUp reports whether the call is the first one of its id. Otherwise it has to wait for
// its turn.
func (c *Conn) queueUp(p *Place) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.expected[p.Call.ID]
	if last == nil && !c.leaving {
		c.expected[p.Call.ID] = p
		return true
	}
	p.turn = make(chan struct{})
	if c.leaving {
		close(p.turn)
		return false
	}
	for last.next != nil {
		last = last.next
	}
	last.next = p
	return false
}

// GiveUp notes that no stream begins for the call.
func (c *Conn) GiveUp(p *Place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unexpect(p)
}

// unexpect takes a call out of those that are expected. mu is held.
func (c *Conn) unexpect(p *Place) {
	first := c.expected[p.Call.ID]
	switch {
	case first != p:
		for ; first != nil; first = first.next {
			if first.next == p {
				first.next = p.next
			}
		}
	case p.next == nil:
		delete(c.expected, p.Call.ID)
	default:
		c.expected[p.Call.ID] = p.next
		close(p.next.turn)
	}
	p.next = nil // a long call would keep all that come after it
}

// Leave notes that the connection takes no more calls. Calls that are expected may still
// begin, but no other one of their ids.
func (c *Conn) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	for _, first := range c.expected {
		for p := first.next; p != nil; p = p.next {
			close(p.turn)
		}
		first.next = nil
	}
}

// readFields reads a part of a request's header block. Write calls it.
func (c *Conn) readFields(stream uint32, part []byte, ends bool) {
	switch id, ok := c.ids.read(part, ends); {
	case !ok: // not written by grpc-go: no call could be known from here on
		_ = c.Conn.Close() // Write meets it
	case ends:
		c.bind(stream, id)
	}
}

// bind gives the stream whose header is complete to the call of the id. It is the only place that does.
func (c *Conn) bind(stream uint32, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.expected[id]
	if p == nil {
		return
	}
	c.unexpect(p)
	p.written.Store(true)
	if stream > c.last {
		p.ends(endLeftOut)
	}
	s, open := c.streams[stream]
	if !open { // it has been reset meanwhile
		return
	}
	s.place = p
	if f := &p.Call.Flow; f.entry != nil {
		s.flow = f
		f.take(&f.small, memory.Small, f.small.Load()) // of an attempt that grpc-go has given up
		f.take(&f.large, memory.Reply, f.large.Load())
		p.conn, p.stream = c, stream
		p.nextAt.Store(-1)
		if f.packs != nil && !p.replaced.Load() {
			f.packs.begins()
		}
	}
	c.streams[stream] = s
}
