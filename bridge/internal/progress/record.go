// Package progress has what is known of a call's waits for its client, and of the end of
// the request's body. It knows no calls: those that wait note it here, and a watch looks
// here for those that are too slow.
package progress

import "sync/atomic"

// A Record has the times, in seconds on Clock, since when a call's two ends have made no
// progress; 0 while nothing is under way. The pump notes where a message begins and ends.
// Within a message the transport notes each piece.
type Record struct {
	Clock   *atomic.Int64 // a coarse clock, from 1
	Sending atomic.Int64  // to the client
	Sends   atomic.Int64  // how many times culvert sent something to the client

	BlockedIn, BlockedOut atomic.Bool // a message waits until the backend, or the client, accepts more
	Receiving             atomic.Bool // the client's connection is being read, so that the reader notices its end
	few                   int32       // bytes since crumbs; only the reader uses it

	reading atomic.Int64 // inside a message from the client
	crumbs  atomic.Int64 // since the last KiB of what arrives in pieces

	waited int64 // seconds that a body's reads have taken for them; only the reader uses it
}

// Marks are times of a Record. They differ from earlier ones if a piece has moved since.
type Marks struct{ sending, reading, crumbs int64 }

// Marks returns the Record's times.
func (p *Record) Marks() Marks { return Marks{p.Sending.Load(), p.reading.Load(), p.crumbs.Load()} }

// BeginSend notes that culvert begins to send the client something.
func (p *Record) BeginSend() {
	p.Sending.Store(p.Clock.Load())
	p.Sends.Add(1)
}

// SentPiece notes that the client has accepted a part of it.
func (p *Record) SentPiece() { p.Sending.Store(p.Clock.Load()) }

// EndSend notes that it is sent.
func (p *Record) EndSend() { p.Sending.Store(0) }

// Taken notes that the client accepts the data under way since then.
func (p *Record) Taken(since int64) { p.Sending.CompareAndSwap(since, p.Clock.Load()) }

// ReadPiece notes that the next piece of a message is awaited from the client.
func (p *Record) ReadPiece() { p.reading.Store(p.Clock.Load()) }

// EndRead notes that no more of the message is awaited.
func (p *Record) EndRead() { p.reading.Store(0) }

// SlowBytes is how much of a message must arrive within limits.slow_sender_timeout.
const SlowBytes = 1 << 10

// ReadPart notes n bytes of a message that isn't complete yet.
func (p *Record) ReadPart(n int) {
	if p.few += int32(min(n, SlowBytes)); p.few >= SlowBytes || !p.InParts() {
		p.few = 0
		p.crumbs.Store(p.Clock.Load())
	}
}

// InParts reports whether a part of a message has arrived, but not its end.
func (p *Record) InParts() bool { return p.crumbs.Load() != 0 }

// EndParts notes that no part of a message is awaited.
func (p *Record) EndParts() {
	if p.InParts() {
		p.crumbs.Store(0)
	}
}

// MessageSince returns since when a message that has begun has brought less than it
// must, or 0 if no message is awaited.
func (p *Record) MessageSince() int64 {
	if since := p.crumbs.Load(); since > 0 {
		return since
	}
	return p.reading.Load()
}

// BeginBody notes that bytes of a body without messages are awaited.
func (p *Record) BeginBody() {
	p.crumbs.Store(p.Clock.Load() - p.waited)
	p.Receiving.Store(true)
}

// EndBody notes that n of them came. The time until the next BeginBody isn't the
// client's.
func (p *Record) EndBody(n int) {
	p.Receiving.Store(false)
	began := p.crumbs.Swap(0)
	if p.few += int32(min(n, SlowBytes)); p.few >= SlowBytes {
		p.few, p.waited = 0, 0
	} else {
		p.waited = p.Clock.Load() - began
	}
}
