package upstream

import (
	"cmp"
	"context"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/status"
)

// expect notes that the stream of a call is about to begin on the connection. It returns
// false if the connection takes no more calls.
//
// grpc-go doesn't say which stream is a call's. So the id in the request's header
// identifies it. Of several calls with one id, only one is expected at a time: expect waits
// until the other one's headers have left, or never will. They leave for each stream that
// grpc-go has begun, even if its call has ended, unless the connection takes no more calls.
func (c *windowConn) expect(ctx context.Context, p *callPlace) (taken bool, err error) {
	taken, gone := c.tryExpect(p)
	if gone == nil {
		return taken, nil
	}
	if k := p.call; !k.elsewhere && k.suspendPatience() { // the call has its place
		defer k.resumePatience()
	}
	for gone != nil {
		select {
		case <-gone:
			taken, gone = c.tryExpect(p)
		case <-ctx.Done():
			return false, status.FromContextError(ctx.Err()).Err()
		}
	}
	return taken, nil
}

// tryExpect returns a channel if it has to wait: the channel is closed then.
func (c *windowConn) tryExpect(p *callPlace) (taken bool, gone <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Err() != nil {
		return true, nil // by grpc-go, which begins no stream here
	}
	if c.leaving {
		return false, nil
	}
	other := c.expected[p.call.id]
	if other == nil {
		c.expected[p.call.id] = p
		return true, nil
	}
	if other.gone == nil {
		other.gone = make(chan struct{})
	}
	return false, other.gone
}

// giveUp notes that no stream begins for the call.
func (c *windowConn) giveUp(p *callPlace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expected[p.call.id] == p {
		c.unexpect(p)
	}
}

// unexpect wakes a call that waits for p. mu is held.
func (c *windowConn) unexpect(p *callPlace) {
	delete(c.expected, p.call.id)
	if p.gone != nil {
		close(p.gone)
		p.gone = nil
	}
}

// leave notes that the connection takes no more calls. Calls that are expected may still
// begin.
func (c *windowConn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	for _, p := range c.expected {
		if p.gone != nil {
			close(p.gone)
			p.gone = nil
		}
	}
}

// readFields reads a part of a request's header block. Write calls it.
func (c *windowConn) readFields(stream uint32, part []byte, ends bool) {
	if c.fields == nil {
		c.fields = hpack.NewDecoder(grpcTableBytes, func(f hpack.HeaderField) {
			if f.Name == idHeader {
				c.id = f.Value
			}
		})
	}
	_, err := c.fields.Write(part)
	if ends {
		err = cmp.Or(err, c.fields.Close())
		c.bind(stream)
	}
	if err != nil {
		c.fields.SetEmitEnabled(false) // not written by grpc-go: no call is known from here on
		c.lost = true
	}
}

const (
	idHeader       = "x-request-id"
	grpcTableBytes = 4 << 10 // HPACK's, grpc-go's initial size, which a backend may not raise
)

// bind gives the stream whose header is complete to its call. It is the only place that does.
func (c *windowConn) bind(stream uint32) {
	id := c.id
	c.id = ""
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[stream]
	p := c.expected[id]
	if !open || s.place != nil || p == nil || c.lost {
		return
	}
	c.unexpect(p)
	p.written.Store(true)
	s.place = p
	if f := &p.call.flow; f.entry != nil {
		s.flow = f
		if f.packs != nil && p.isLast() {
			f.packs.begins(f.entry)
		}
	}
	c.streams[stream] = s
}
