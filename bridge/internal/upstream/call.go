package upstream

import (
	"cmp"
	"sync"
	"sync/atomic"
)

// A wireCall is what the connections know of a call, on whichever its stream begins.
type wireCall struct {
	ID   string // the x-request-id of the call
	Most int    // bytes of a message; 0: not known
	Flow flow   // the bytes of the call in grpc-go, both ways
}

// A wirePlace is a call's place on a connection, with the facts of its stream there. If
// grpc-go sends a call again by itself, the call gets another place.
type wirePlace struct {
	Call     *wireCall
	replaced atomic.Bool // the call has got another place

	written    atomic.Bool   // the request's headers have left
	answered   atomic.Bool   // the answer has begun
	compressed atomic.Bool   // the answer's header names a coding
	unknown    atomic.Bool   // which grpc-go doesn't know
	marked     bool          // a message that came is marked as compressed; only the connection's Read uses it
	http       int           // the answer's status of HTTP; only the connection's Read uses it
	trailer    atomic.Bool   // HEADERS with END_STREAM came
	own        answerStatus  // the backend's, in them
	end        atomic.Uint32 // an end: how the call ends otherwise

	turn chan struct{} // closed once the call may begin, or can't any more; nil: it needn't wait
	next *wirePlace    // of the same id, which waits until this one has begun. The connection's mu guards it

	mu     sync.Mutex
	packed fifo[uint32] // the sizes of messages that arrived and weren't received, if compressed: as they came
}

// replace notes that the call has got another place.
func (p *wirePlace) replace() { p.replaced.Store(true) }

// isCompressed reports, once there is a header, whether it names a coding.
func (p *wirePlace) isCompressed() bool { return p.compressed.Load() }

// isWritten reports whether the request's headers have left.
func (p *wirePlace) isWritten() bool { return p.written.Load() }

// isAnswered reports whether the answer has begun.
func (p *wirePlace) isAnswered() bool { return p.answered.Load() }

// received returns the size of the message that was received last, as it arrived.
func (p *wirePlace) received(plain int) int {
	if !p.compressed.Load() {
		return plain
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n, _ := p.packed.pop()
	return cmp.Or(int(n), plain)
}
