package upstream

import (
	"cmp"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// expect says that a call's stream is about to begin on the connection.
//
// grpc-go doesn't say which stream is a call's. So it is known by the id in the
// request's header. Of several calls with one id any may be taken for another.
func (c *windowConn) expect(f *flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expecting >= c.purgeAt {
		c.purge()
	}
	c.expected[f.id] = append(c.expected[f.id], f)
	c.expecting++
}

// over reports whether no stream of the call begins any more.
func (f *flow) over() bool { return f.unborn.Load() || f.entry.Settled() }

// minExpected is how many calls may be expected before those are looked for that have
// ended.
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
		c.fields.SetEmitEnabled(false) // not what grpc-go writes: no call is known from here on
		c.lost = true
	}
}

const (
	idHeader       = "x-request-id"
	grpcTableBytes = 4 << 10 // HPACK's, as grpc-go begins with and a backend may not raise
)

// bind says whose stream it is whose header has come whole.
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
