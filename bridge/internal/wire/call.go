package wire

import (
	"cmp"
	"sync"
	"sync/atomic"
)

// A Call is what the connections know of a call, on whichever its stream begins.
type Call struct {
	ID   string // the x-request-id of the call
	Most int    // bytes of a message; 0: not known
	Flow Flow   // the bytes of the call in grpc-go, both ways
}

// A Place is a call's place on a connection, with the facts of its stream there. If
// grpc-go sends a call again by itself, the call gets another place.
type Place struct {
	Call     *Call
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

	conn   *Conn        // of a call that counts: its connection, and its stream there
	stream uint32       // valid once conn is
	nextAt atomic.Int64 // the stream may get window once so few small bytes wait for the client
	inHand atomic.Int64 // of them, the bytes of a large message that the call has received

	messages atomic.Uint64 // that have arrived whole, with the whole frame of their last byte
	taken    uint64        // of them; only Received and HasMore use it

	turn chan struct{} // closed once the call may begin, or can't any more; nil: it needn't wait
	next *Place        // of the same id, which waits until this one has begun. The connection's mu guards it

	mu     sync.Mutex
	packed fifo[uint32] // the sizes of messages that arrived and weren't received, if compressed: as they came
}

// Replace notes that the call has got another place.
func (p *Place) Replace() { p.replaced.Store(true) }

// IsCompressed reports, once there is a header, whether it names a coding.
func (p *Place) IsCompressed() bool { return p.compressed.Load() }

// IsWritten reports whether the request's headers have left.
func (p *Place) IsWritten() bool { return p.written.Load() }

// IsAnswered reports whether the answer has begun.
func (p *Place) IsAnswered() bool { return p.answered.Load() }

// HasMore reports whether another message has arrived since the one that was received last, so
// that grpc-go hands it out without a wait. grpc-go reads each frame of DATA as a whole. HasMore
// must not run beside Received.
func (p *Place) HasMore() bool { return p.messages.Load() > p.taken }

// Received notes a message that grpc-go has handed out, and returns its size as it arrived. The
// backend may send what follows a large one.
func (p *Place) Received(plain int) int {
	p.taken++
	size := plain
	if p.compressed.Load() {
		size = p.sizeAsItCame(plain)
	}
	if size > StreamWindow && p.conn != nil {
		p.inHand.Store(int64(size) + prefixBytes - p.Call.Flow.large.Load())
		p.conn.goOn(p.stream)
	}
	return size
}

func (p *Place) sizeAsItCame(plain int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, _ := p.packed.pop()
	return cmp.Or(int(n), plain)
}

// Taken notes that messages of this many bytes are sent on: small ones, or a large one. The
// backend may send others for them.
func (p *Place) Taken(messages, bytes int) {
	if messages == 1 && bytes > StreamWindow {
		p.inHand.Store(0)
	}
	p.Call.Flow.Taken(messages, bytes)
	if p.conn != nil && p.waiting() <= p.nextAt.Load() {
		p.conn.goOn(p.stream)
	}
}

// waiting returns how many bytes wait for the client that came unasked, without the message that
// the call has in hand.
func (p *Place) waiting() int64 { return max(p.Call.Flow.small.Load()-p.inHand.Load(), 0) }
