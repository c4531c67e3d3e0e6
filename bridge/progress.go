package bridge

import (
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/memory"
)

// The pump calls the client and the backend through these methods only, so every wait
// is noted in one place.

// recv reads the client's next message.
func (r *running) recv() (mem.BufferSlice, error) {
	p := &r.call.progress
	p.receiving.Store(true)
	defer p.receiving.Store(false)
	return r.down.Recv()
}

// awaitEnd waits for the client to go away.
func (r *running) awaitEnd(down endAwaiter) error {
	p := &r.call.progress
	p.receiving.Store(true)
	defer p.receiving.Store(false)
	return down.AwaitEnd()
}

// pass sends a message to the backend.
func (r *running) pass(m mem.BufferSlice) error {
	r.call.progress.beginPass()
	defer r.call.progress.endPass()
	if r.conn != nil {
		r.call.held.Add(memory.Small, memory.BehindBytes)
		defer r.call.held.Sub(memory.Small, memory.BehindBytes)
	}
	if r.up.Full() {
		r.call.progress.blockedIn.Store(true)
		defer r.call.progress.blockedIn.Store(false)
	}
	return r.up.Send(m)
}

// sendHeader sends the client the header.
func (r *running) sendHeader(md metadata.MD, more bool) error {
	r.call.progress.beginSend()
	defer r.call.progress.endSend()
	return r.down.SendHeader(md, more)
}

// send sends the client a message.
func (r *running) send(m mem.BufferSlice, more bool) error {
	r.call.progress.beginSend()
	defer r.call.progress.endSend()
	return r.down.Send(m, more)
}

// finish tells the client the end.
func (r *running) finish(st *status.Status, trailer metadata.MD) error {
	r.call.progress.beginSend()
	defer r.call.progress.endSend()
	return r.down.Finish(st, trailer)
}

// progress has the times, in seconds on the registry's clock, since when a call's two
// ends have made no progress; 0 while nothing is under way. running notes where a
// message begins and ends. Within a message the transport notes each piece.
type progress struct {
	clock     *atomic.Int64
	sending   atomic.Int64 // to the client
	reading   atomic.Int64 // inside a message from the client
	passing   atomic.Int64 // a request to the upstream, or the wait for the Authenticator
	crumbs    atomic.Int64 // since the last KiB of a message that arrives in pieces
	sends     atomic.Int64 // how many times culvert sent something to the client
	receiving atomic.Bool  // the connection is being read, so culvert notices its end

	blockedIn, blockedOut atomic.Bool // a message waits until the backend, or the client, accepts more

	few int // bytes since then; only the reader uses it
}

func (p *progress) beginSend() {
	p.sending.Store(p.clock.Load())
	p.sends.Add(1)
}

func (p *progress) sentPiece() { p.sending.Store(p.clock.Load()) }
func (p *progress) endSend()   { p.sending.Store(0) }

func (p *progress) beginPass() { p.passing.Store(p.clock.Load()) }
func (p *progress) endPass()   { p.passing.Store(0) }

// taken notes that the client accepts the data under way since then.
func (p *progress) taken(since int64) { p.sending.CompareAndSwap(since, p.clock.Load()) }

func (p *progress) readPiece() { p.reading.Store(p.clock.Load()) }
func (p *progress) endRead()   { p.reading.Store(0) }

// slowBytes is how much of a message must arrive within limits.slow_sender_timeout.
const slowBytes = 1 << 10

// readPart notes n bytes of a message that isn't complete yet.
func (p *progress) readPart(n int) {
	if p.few += n; p.few >= slowBytes || !p.inParts() {
		p.few = 0
		p.crumbs.Store(p.clock.Load())
	}
}

// inParts reports whether a part of a message has arrived, but not its end.
func (p *progress) inParts() bool { return p.crumbs.Load() != 0 }

// endParts notes that no part of a message is awaited.
func (p *progress) endParts() {
	if p.inParts() {
		p.crumbs.Store(0)
	}
}

// messageSince returns since when a message that has begun has brought less than it
// must, or 0 if no message is awaited.
func (p *progress) messageSince() int64 {
	if since := p.crumbs.Load(); since > 0 {
		return since
	}
	return p.reading.Load()
}
