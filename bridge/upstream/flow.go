package upstream

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"

	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/bridge/memory"
)

// A flow counts what has come of a call's replies and isn't sent on: with grpc-go, and
// with whoever has received it. It counts with the call from the moment it arrives. And
// it counts what grpc-go takes for requests that it has queued, besides what has room of
// its own.
type flow struct {
	entry        *memory.Entry
	id           string                  // the call's
	giveUp       context.CancelCauseFunc // ends the call
	packs        bool                    // grpc-go compresses the requests
	bound        atomic.Bool             // its stream is known
	small, large atomic.Int64            // large: of messages that were granted their room (grant)

	// queued are the requests that aren't written yet: their bytes, and what they cost.
	// If packs, bytes is below 0 while some are written that queuePacked wasn't told of.
	queued struct{ bytes, cost atomic.Int64 }
}

// queuedBytes is what grpc-go takes for a message that it queues, besides its bytes.
const queuedBytes = 300

// smallRequest is the largest request that has no room of its own, as messages get it
// when they are read.
const smallRequest = 1 << 10

// queue notes that grpc-go will be given a request of n bytes.
func (f *flow) queue(n int) {
	if !f.bound.Load() {
		return // nobody would tell when it is written
	}
	cost := int64(queuedBytes)
	if n <= smallRequest {
		cost += int64(n)
	}
	f.entry.Add(memory.Small, int(cost)) // before anybody can write it
	f.queued.bytes.Add(int64(n) + prefixBytes)
	f.queued.cost.Add(cost)
}

// queuePacked notes that grpc-go has a copy of a request that it has compressed to n
// bytes. It may be written already.
func (f *flow) queuePacked(n int) {
	bytes := int64(n) + prefixBytes
	if !f.bound.Load() {
		f.queued.bytes.Add(bytes)
		return // as above
	}
	cost := int64(n + queuedBytes)
	f.entry.Add(memory.Request, int(cost))
	f.queued.cost.Add(cost)
	if f.queued.bytes.Add(bytes) <= 0 {
		f.unqueue(f.queued.cost.Swap(0))
	}
}

// wrote notes that n bytes of requests are on their way.
func (f *flow) wrote(n int64) {
	left := f.queued.bytes.Add(-n)
	if left > 0 {
		part := f.queued.cost.Load() * n / (left + n)
		f.queued.cost.Add(-part)
		f.unqueue(part)
		return
	}
	if left < 0 && !f.packs { // queue wasn't told of some
		f.queued.bytes.Add(-left)
	}
	f.unqueue(f.queued.cost.Swap(0))
}

// unqueue gives back what queued requests cost.
func (f *flow) unqueue(cost int64) {
	of := memory.Small
	if f.packs {
		of = memory.Request
	}
	if cost > 0 {
		f.entry.Sub(of, int(cost))
	}
}

// came notes bytes that arrived unasked, with the prefixes of messages and with padding.
func (f *flow) came(n int64) {
	f.entry.Add(memory.Small, int(n)) // before anybody can take it
	f.small.Add(n)
}

// taken notes that messages of so many bytes are sent on: small ones, or a large one.
func (f *flow) taken(messages, bytes int) {
	n := int64(bytes) + int64(messages)*prefixBytes
	if messages == 1 && bytes > memory.UnaskedBytes {
		n -= f.take(&f.large, memory.Reply, n)
	}
	f.take(&f.small, memory.Small, n)
}

// take takes up to n bytes of a count, and returns how many.
func (f *flow) take(count *atomic.Int64, of memory.Class, n int64) int64 {
	if left := count.Add(-n); left < 0 { // the backend has padded
		count.Add(-left)
		n += left
	}
	if n > 0 {
		f.entry.Sub(of, int(n))
	}
	return n
}

// prefixBytes is what stands before each message. gRPC PROTOCOL-HTTP2,
// "Length-Prefixed-Message".
const prefixBytes = 5

// A streamState is what is known of a stream on which the backend may still send.
type streamState struct {
	grant *grant // of its large message; nil: none
	flow  *flow  // of its call; nil: not known

	small, large int64 // bytes that count with the connection, since the call isn't known
}

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

// minExpected is how many calls may be expected before those are looked for that have
// ended.
const minExpected = 64

// purge forgets the calls that ended before their streams began. mu is held.
func (c *windowConn) purge() {
	c.expecting = 0
	for id, flows := range c.expected {
		flows = slices.DeleteFunc(flows, func(f *flow) bool { return f.entry.Settled() })
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
		if !flows[0].entry.Settled() {
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

// wrote tells the call of a DATA frame that goes out.
func (c *windowConn) wrote(f h2Frame) {
	c.mu.Lock()
	of := c.streams[f.stream].flow
	c.mu.Unlock()
	if of != nil {
		of.wrote(int64(f.length))
	}
}

// countArrived counts the DATA that was read: of one stream at a time, however many
// frames it came in.
func (c *windowConn) countArrived() {
	id, n := c.came.stream, c.came.bytes
	if n == 0 {
		return
	}
	c.came.bytes = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[id]
	if !open {
		return
	}
	if s.flow != nil && s.flow.entry.Settled() { // it is another call's of the same id, which has ended
		s.flow = nil
		c.disown(s.grant)
	}
	n -= c.arrived(&s, n)
	switch {
	case n == 0:
	case s.flow != nil:
		s.flow.came(n)
	default: // when these bytes are taken isn't known either, but the window bounds them
		n = max(min(n, streamWindow-s.small), 0)
		c.window.Add(memory.Small, int(n))
		s.small += n
	}
	c.streams[id] = s
}
