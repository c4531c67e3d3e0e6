// Package progress has what is known of a call's waits for its client and its backend. It
// knows no calls: those that wait note it here, and a watch looks here for those that are
// too slow.
package progress

import "sync/atomic"

// A Record has the times, in seconds on Clock, since when a call's two ends have made no
// progress; 0 while nothing is under way. The pump notes where a message begins and ends.
// Within a message the transport notes each piece. Those who look at a Record read its
// fields.
type Record struct {
	Clock     *atomic.Int64 // a coarse clock, from 1
	Sending   atomic.Int64  // to the client
	Reading   atomic.Int64  // inside a message from the client
	Passing   atomic.Int64  // a request to the upstream, or the wait for the Authenticator
	Crumbs    atomic.Int64  // since the last KiB of a message that arrives in pieces
	Sends     atomic.Int64  // how many times culvert sent something to the client
	Receiving atomic.Bool   // the connection is being read, so culvert notices its end

	BlockedIn, BlockedOut atomic.Bool // a message waits until the backend, or the client, accepts more

	few int // bytes since Crumbs; only the reader uses it
}

// BeginSend notes that culvert begins to send the client something.
func (p *Record) BeginSend() {
	p.Sending.Store(p.Clock.Load())
	p.Sends.Add(1)
}

// SentPiece notes that the client has accepted a part of it.
func (p *Record) SentPiece() { p.Sending.Store(p.Clock.Load()) }

// EndSend notes that it is sent.
func (p *Record) EndSend() { p.Sending.Store(0) }

// BeginPass notes that a request begins to go to the upstream.
func (p *Record) BeginPass() { p.Passing.Store(p.Clock.Load()) }

// EndPass notes that the upstream has it.
func (p *Record) EndPass() { p.Passing.Store(0) }

// Taken notes that the client accepts the data under way since then.
func (p *Record) Taken(since int64) { p.Sending.CompareAndSwap(since, p.Clock.Load()) }

// ReadPiece notes that the next piece of a message is awaited from the client.
func (p *Record) ReadPiece() { p.Reading.Store(p.Clock.Load()) }

// EndRead notes that no more of the message is awaited.
func (p *Record) EndRead() { p.Reading.Store(0) }

// SlowBytes is how much of a message must arrive within limits.slow_sender_timeout.
const SlowBytes = 1 << 10

// ReadPart notes n bytes of a message that isn't complete yet.
func (p *Record) ReadPart(n int) {
	if p.few += n; p.few >= SlowBytes || !p.InParts() {
		p.few = 0
		p.Crumbs.Store(p.Clock.Load())
	}
}

// InParts reports whether a part of a message has arrived, but not its end.
func (p *Record) InParts() bool { return p.Crumbs.Load() != 0 }

// EndParts notes that no part of a message is awaited.
func (p *Record) EndParts() {
	if p.InParts() {
		p.Crumbs.Store(0)
	}
}

// MessageSince returns since when a message that has begun has brought less than it
// must, or 0 if no message is awaited.
func (p *Record) MessageSince() int64 {
	if since := p.Crumbs.Load(); since > 0 {
		return since
	}
	return p.Reading.Load()
}
