package upstream

import (
	"maps"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/memory"
)

// A flow counts what has come of a call's replies and isn't sent on: with grpc-go, and
// with whoever has received it. It counts with the call from the moment it arrives. And
// it counts small requests that grpc-go has queued, which have no room of their own.
type flow struct {
	entry        *memory.Entry
	mark         string       // the call's id, as the request's header has it
	small, large atomic.Int64 // large: of messages that were granted their room

	queued struct{ bytes, cost atomic.Int64 } // small requests
}

// queuedBytes is what grpc-go takes for a message that it queues, besides its bytes.
const queuedBytes = 300

// queue notes that grpc-go is given a request of so many bytes.
func (f *flow) queue(n int) {
	cost := int64(n + queuedBytes)
	f.queued.bytes.Add(int64(n) + prefixBytes)
	f.queued.cost.Add(cost)
	f.entry.Add(memory.Small, int(cost))
}

// wrote notes that n bytes of requests are on their way: of those that are queued, and of
// others, which queue isn't told of.
func (f *flow) wrote(n int64) {
	before := f.queued.bytes.Load()
	if before <= 0 {
		return
	}
	cost := f.queued.cost.Load()
	if n < before {
		cost = cost * n / before
	}
	f.queued.bytes.Add(-min(n, before))
	f.queued.cost.Add(-cost)
	f.entry.Sub(memory.Small, int(cost))
}

// came notes bytes that arrived unasked, with the prefixes of messages and with padding.
func (f *flow) came(n int64) {
	f.small.Add(n)
	f.entry.Add(memory.Small, int(n))
}

// cameGranted notes bytes of a message that has its room.
func (f *flow) cameGranted(n int64) {
	f.large.Add(n)
	f.entry.Add(memory.Reply, int(n))
}

// wait notes that a message waits for its room, or no longer. f may be nil.
func (f *flow) wait(n int32) {
	if f != nil {
		f.entry.Wait(n)
	}
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
	if left := count.Add(-n); left < 0 { // the backend compresses, or has padded
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
	ofAll int64  // bytes that count with the connection, since the call isn't known
}

// expect says that a call's stream is about to begin on the connection.
//
// grpc-go doesn't say which stream is a call's. So it is known by the value that the
// request's header has for the call alone: its id. Two calls of one id at the same time
// on the same connection may be taken for each other.
func (c *windowConn) expect(f *flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.expected) > 2*len(c.streams)+minExpected {
		maps.DeleteFunc(c.expected, func(_ string, f *flow) bool { return f.entry.Settled() }) // calls that ended before their streams began
	}
	c.expected[f.mark] = f
}

// minExpected is how many calls may be expected before those are looked for that have
// ended.
const minExpected = 64

// owner returns the flow of the call whose request's header begins with the block. It
// returns nil if the call isn't known: its id is in a later frame, or the frame came in
// parts. mu is held.
func (c *windowConn) owner(block []byte) *flow {
	if len(c.expected) == 0 {
		return nil
	}
	var found *flow
	eachLiteral(block, func(value []byte) bool {
		found = c.expected[string(value)]
		return found == nil
	})
	if found != nil {
		delete(c.expected, found.mark)
	}
	return found
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
	if g := s.grant; g != nil && g.open {
		granted := min(n, g.left)
		c.cover(granted)
		c.window.Sub(memory.Reply, int(granted))
		if s.flow != nil {
			s.flow.cameGranted(granted)
		}
		n -= granted
		if g.left -= granted; g.left == 0 {
			c.drop(id)
			s = c.streams[id]
		}
	}
	switch {
	case n == 0:
	case s.flow != nil:
		s.flow.came(n)
	default: // when these bytes are taken isn't known either, but the window bounds them
		n = min(n, streamWindow-s.ofAll)
		c.window.Add(memory.Small, int(n))
		s.ofAll += n
		c.streams[id] = s
	}
}
