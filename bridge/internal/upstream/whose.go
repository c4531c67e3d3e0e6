package upstream

import (
	"cmp"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// expect notes that a call's stream is about to begin on the connection.
//
// grpc-go doesn't say which stream is a call's. So the id in the request's header
// identifies it. If several calls have the same id, any of them may be taken for
// another.
func (c *windowConn) expect(f *flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expecting >= c.purgeAt {
		c.purge()
	}
	c.expected[f.id] = append(c.expected[f.id], f)
	c.expecting++
}

// over reports whether no stream of the call will begin any more.
func (f *flow) over() bool { return f.unborn.Load() || f.entry.Settled() }

// minExpected is how many calls may be expected before ended ones are looked for.
const minExpected = 64

// purge forgets the calls that ended before their streams began. mu is held.
func (c *windowConn) purge() {
	c.expecting = 0
	for id, flows := range c.expected {
		flows = slices.DeleteFunc(flows, func(f *flow) bool { return f.over() })
		if c.expected[id] = flows; len(flows) == 0 {
			delete(c.expected, id)
		}
		c.expecting += len(flows)
	}
	c.purgeAt = max(2*c.expecting, minExpected)
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

// bind finds the call of the stream whose header is complete.
func (c *windowConn) bind(stream uint32) {
	id := c.id
	c.id = ""
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[stream]
	flows := c.expected[id]
	if !open || s.flow != nil || c.lost {
		return
	}
	for len(flows) > 0 && s.flow == nil {
		if !flows[0].over() {
			s.flow = flows[0]
			s.flow.bound.Store(true)
			c.streams[stream] = s
		}
		flows = flows[1:]
		c.expecting--
	}
	if c.expected[id] = flows; len(flows) == 0 {
		delete(c.expected, id)
	}
}
