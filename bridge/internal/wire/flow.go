package wire

import (
	"context"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// A Flow counts the bytes of a call's replies that have arrived and aren't sent on
// yet: in grpc-go, and with their receiver. They count with the call from the moment
// of their arrival. A Flow also counts the memory that grpc-go takes for queued
// requests, except those that already have room of their own.
type Flow struct {
	entry        *memory.Entry           // nil: nothing counts
	giveUp       context.CancelCauseFunc // ends the call
	small, large atomic.Int64            // large: of messages that were granted room (grant)

	queued struct{ bytes, cost atomic.Int64 } // requests that aren't written yet; cost counts as small
	packs  *packedRequests                    // these requests instead, if grpc-go compresses them again; nil: it doesn't
}

// queuedBytes is how much grpc-go takes for a queued message, besides its bytes.
const queuedBytes = 300

// streamQueueBytes is how much of a stream grpc-go queues before SendMsg waits: its
// defaultWriteQuota.
const streamQueueBytes = 64 << 10

// Count has the bytes count with the entry. giveUp ends the call. packed says that grpc-go
// compresses the requests.
func (f *Flow) Count(e *memory.Entry, giveUp context.CancelCauseFunc, packed bool) {
	f.entry, f.giveUp = e, giveUp
	if packed {
		f.packs = new(packedRequests)
	}
}

// Queue notes that grpc-go is about to get a request of n bytes.
func (f *Flow) Queue(n int) {
	if f.entry == nil {
		return
	}
	if f.packs != nil {
		f.packs.queue(f.entry, int64(n))
		return
	}
	cost := int64(queuedBytes)
	if n <= memory.RoomlessBytes {
		cost += int64(n)
	}
	f.entry.Add(memory.Small, int(cost)) // before it can be written
	f.queued.bytes.Add(int64(n) + prefixBytes)
	f.queued.cost.Add(cost)
}

// wrote notes that a part of the requests is on its way.
func (f *Flow) wrote(part []byte) {
	f.entry.Moved(len(part))
	if f.packs != nil {
		f.packs.wrote(f.entry, part)
		return
	}
	n := int64(len(part))
	left := f.queued.bytes.Add(-n)
	if left > 0 {
		part := f.queued.cost.Load() * n / (left + n)
		f.queued.cost.Add(-part)
		f.entry.Sub(memory.Small, int(part))
		return
	}
	f.queued.bytes.Add(-left) // below 0 if grpc-go sends some again
	f.UnqueueAll()
}

// UnqueueAll gives back the cost of queued requests.
func (f *Flow) UnqueueAll() {
	if f.packs != nil {
		f.packs.end(f.entry)
	}
	if cost := f.queued.cost.Swap(0); cost > 0 {
		f.entry.Sub(memory.Small, int(cost))
	}
}

// IsFull reports whether grpc-go has queued so much that another request has to wait. It may
// be early for requests that grpc-go compresses.
func (f *Flow) IsFull() bool {
	if f.packs != nil {
		return f.packs.isFull()
	}
	return f.queued.bytes.Load() >= streamQueueBytes
}

// came notes bytes that arrived unasked, with the prefixes of messages.
func (f *Flow) came(n int64) {
	f.entry.Add(memory.Small, int(n)) // before anything can take it
	f.small.Add(n)
}

// Waiting returns how many bytes have arrived and aren't taken.
func (f *Flow) Waiting() int64 { return f.small.Load() + f.large.Load() }

// Taken notes that messages of this many bytes are sent on: small ones, or a large
// one.
func (f *Flow) Taken(messages, bytes int) {
	if f.entry == nil {
		return
	}
	n := int64(bytes) + int64(messages)*prefixBytes
	if messages == 1 && bytes > StreamWindow {
		n -= f.take(&f.large, memory.Reply, n)
	}
	f.take(&f.small, memory.Small, n)
}

// take takes up to n bytes from a count, and returns how many.
func (f *Flow) take(count *atomic.Int64, of memory.Class, n int64) int64 {
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

// A stream has the facts of a stream on which the backend may still send.
type stream struct {
	grant  *grant      // of its large message; nil: none
	place  *Place      // of its call; nil: not known
	answer answerStage // of a call that is known
	flow   *Flow       // of its call; nil: not known, or nothing counts

	small, large int64 // bytes that count with the connection, since the call isn't known

	messages arriving
	window   int64 // bytes that the backend may send
	withheld int64 // bytes that it may send besides for grpc-go, but not yet for culvert
}

// flowOf returns the flow of a stream's call, unless grpc-go has sent the call again.
func (c *Conn) flowOf(stream uint32) *Flow {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[stream]
	if s.flow == nil || s.place.replaced.Load() {
		return nil
	}
	return s.flow
}

// countArrived counts the DATA that was read: for one stream at a time, in any number
// of frames.
func (c *Conn) countArrived() {
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
		if c.came.ends == nil {
			c.came.place = nil
		}
		return
	}
	if s.window -= passed; s.window+s.withheld < 0 { // grpc-go's window. RFC 9113 §6.9.1
		s.answer, c.came.place = isOver, nil
		if s.place != nil {
			s.place.ends(endMalformed)
		}
	}
	s.messages = c.came.messages
	n -= c.takeFromGrant(&s, n)
	switch {
	case n == 0:
	case s.flow != nil:
		s.flow.came(n)
	default: // the time when these bytes are taken isn't known either, but the window bounds them
		n = max(min(n, GRPCWindow-maxWithheld-s.small), 0)
		c.window.Add(memory.Small, int(n))
		s.small += n
	}
	c.offerMore(id, &s)
	c.streams[id] = s
}
