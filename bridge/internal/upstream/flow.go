package upstream

import (
	"context"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// A flow counts the bytes of a call's replies that have arrived and aren't sent on
// yet: in grpc-go, and with their receiver. They count with the call from the moment
// of their arrival. A flow also counts the memory that grpc-go takes for queued
// requests, except those that already have room of their own.
type flow struct {
	entry        *memory.Entry
	id           string                  // the call's
	giveUp       context.CancelCauseFunc // ends the call
	packs        bool                    // grpc-go compresses the requests again
	bound        atomic.Bool             // its stream is known
	unborn       atomic.Bool             // its stream hasn't begun, and won't
	small, large atomic.Int64            // large: of messages that were granted room (grant)

	// queued are the requests that aren't written yet: their bytes, and their cost,
	// which counts as small and as large (a copy that grpc-go has compressed). If
	// packs, bytes is below 0 while some are written that queuePacked hasn't noted
	// yet.
	queued struct{ bytes, small, large atomic.Int64 }
}

// queuedBytes is how much grpc-go takes for a queued message, besides its bytes.
const queuedBytes = 300

// queue notes that grpc-go is about to get a request of n bytes.
func (f *flow) queue(n int) {
	if !f.bound.Load() {
		return // nothing would report that it is written
	}
	cost := int64(queuedBytes)
	if n <= memory.RoomlessBytes {
		cost += int64(n)
	}
	f.entry.Add(memory.Small, int(cost)) // before it can be written
	f.queued.bytes.Add(int64(n) + prefixBytes)
	f.queued.small.Add(cost)
}

// queuePacked notes that grpc-go has a copy of a request, compressed to n bytes. It
// may be written already.
func (f *flow) queuePacked(n int) {
	bytes := int64(n) + prefixBytes
	if !f.bound.Load() { // the cost isn't known; wrote takes the bytes once the stream is known
		f.queued.bytes.Add(bytes)
		return
	}
	of, cost := memory.RequestClass(n), &f.queued.small
	if of == memory.Request {
		cost = &f.queued.large
	}
	f.entry.Add(of, n+queuedBytes)
	cost.Add(int64(n + queuedBytes))
	if f.queued.bytes.Add(bytes) <= 0 {
		f.unqueueAll()
	}
}

// wrote notes that n bytes of requests are on their way.
func (f *flow) wrote(n int64) {
	f.entry.Moved(int(n))
	left := f.queued.bytes.Add(-n)
	if left > 0 {
		for _, cost := range f.costs() {
			part := cost.count.Load() * n / (left + n)
			cost.count.Add(-part)
			f.unqueue(cost.of, part)
		}
		return
	}
	if left < 0 && !f.packs { // queue didn't note some
		f.queued.bytes.Add(-left)
	}
	f.unqueueAll()
}

// unqueueAll gives back the cost of queued requests.
func (f *flow) unqueueAll() {
	for _, cost := range f.costs() {
		f.unqueue(cost.of, cost.count.Swap(0))
	}
}

func (f *flow) unqueue(of memory.Class, cost int64) {
	if cost > 0 {
		f.entry.Sub(of, int(cost))
	}
}

type queuedCost struct {
	count *atomic.Int64
	of    memory.Class
}

func (f *flow) costs() [2]queuedCost {
	return [2]queuedCost{{&f.queued.small, memory.Small}, {&f.queued.large, memory.Request}}
}

// came notes bytes that arrived unasked, with the prefixes of messages.
func (f *flow) came(n int64) {
	f.entry.Add(memory.Small, int(n)) // before anything can take it
	f.small.Add(n)
}

// waiting returns how many bytes have arrived and aren't taken.
func (f *flow) waiting() int64 { return f.small.Load() + f.large.Load() }

// taken notes that messages of this many bytes are sent on: small ones, or a large
// one.
func (f *flow) taken(messages, bytes int) {
	n := int64(bytes) + int64(messages)*prefixBytes
	if messages == 1 && bytes > StreamWindow {
		n -= f.take(&f.large, memory.Reply, n)
	}
	f.take(&f.small, memory.Small, n)
}

// take takes up to n bytes from a count, and returns how many.
func (f *flow) take(count *atomic.Int64, of memory.Class, n int64) int64 {
	if left := count.Add(-n); left < 0 { // the rest isn't in this count
		count.Add(-left)
		n += left
	}
	if n > 0 {
		f.entry.Sub(of, int(n))
	}
	return n
}

// prefixBytes is the size of the prefix of each message. gRPC PROTOCOL-HTTP2,
// "Length-Prefixed-Message".
const prefixBytes = 5

// A streamState has the facts of a stream on which the backend may still send.
type streamState struct {
	grant *grant // of its large message; nil: none
	flow  *flow  // of its call; nil: not known

	small, large int64 // bytes that count with the connection, since the call isn't known

	messages arriving
	window   int64 // bytes that the backend may send
	withheld int64 // bytes that it may send besides for grpc-go, but not yet for culvert
}

// sentData tells the call about a DATA frame that is being sent.
func (c *windowConn) sentData(f h2Frame) {
	if of := c.flowOf(f.stream); of != nil {
		of.wrote(int64(f.length))
	}
}

func (c *windowConn) flowOf(stream uint32) *flow {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[stream].flow
}

// countArrived counts the DATA that was read: for one stream at a time, in any number
// of frames.
func (c *windowConn) countArrived() {
	id, n, padded, passed := c.came.stream, c.came.bytes, c.came.padded, c.came.passed
	if padded == 0 && passed == 0 {
		return
	}
	c.came.bytes, c.came.padded, c.came.passed = 0, 0, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unasked += padded
	s, open := c.streams[id]
	if !open {
		return
	}
	s.window -= passed
	s.messages = c.came.messages
	if s.flow != nil && s.flow.entry.Settled() { // it is another call's of the same id, which has ended
		s.flow = nil
		c.disown(s.grant)
	}
	n -= c.takeFromGrant(&s, n)
	switch {
	case n == 0:
	case s.flow != nil:
		s.flow.came(n)
	default: // the time when these bytes are taken isn't known either, but the window bounds them
		n = max(min(n, StreamWindow-s.small), 0)
		c.window.Add(memory.Small, int(n))
		s.small += n
	}
	c.streams[id] = s
}
