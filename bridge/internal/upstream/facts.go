package upstream

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// callFacts has facts that grpc-go's own status doesn't have: what really came from
// the backend and what really went to it.
type callFacts struct {
	id    string                    // the x-request-id of the call
	sent  atomic.Bool               // grpc-go has begun a stream for the call
	place atomic.Pointer[callPlace] // the last one that the call got; nil: it has got none

	most      int                          // of a message; 0: not known
	flow      flow                         // the bytes of the call in grpc-go, both ways
	patience  *openTimer                   // gives up a call that gets no stream; nil: it has got one
	refusal   atomic.Pointer[report.Fault] // why it got no place, if it got none
	replayed  atomic.Bool                  // grpc-go has sent the call again: see Stream.recvMsg
	refused   []*backendAddress            // that have refused the call, in earlier attempts too; guarded by the pool's mu
	elsewhere bool                         // another backend may have room for the call; until it began
	waits     bool                         // the pool counts it as waiting, until it began
	began     bool                         // Open has ended; a later attempt isn't counted as waiting
}

// A callPlace is a call's place on a connection, with the facts of its stream there. If
// grpc-go sends a call again by itself, the call gets another place.
type callPlace struct {
	call *callFacts
	link *backendLink

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
	next *callPlace    // of the same id, which waits until this one has begun. The connection's mu guards it

	mu     sync.Mutex
	packed fifo[uint32] // the sizes of messages that arrived and weren't received, if compressed: as they came
}

// done gives the place back.
func (p *callPlace) done(info balancer.DoneInfo) {
	defer p.link.wire.catch()
	if !info.BytesSent { // grpc-go has begun no stream
		p.link.wire.giveUp(p)
	}
	p.link.release(p.wasRefused(info.Err))
}

// isLast reports whether the call has got no other place.
func (p *callPlace) isLast() bool { return p.call.place.Load() == p }

// received returns the size of the message that was received last, as it arrived.
func (p *callPlace) received(plain int) int {
	if !p.compressed.Load() {
		return plain
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n, _ := p.packed.pop()
	return cmp.Or(int(n), plain)
}

// suspendPatience stops the timer. It reports whether the timer was running, as it does
// until the call has a stream. k may be nil.
func (k *callFacts) suspendPatience() bool {
	return k != nil && k.patience != nil && k.patience.suspend()
}

// resumePatience starts the timer anew.
func (k *callFacts) resumePatience() { k.patience.resume() }

type factsKey struct{}

// factsOf returns nil for culvert's own call: reflection.
func factsOf(ctx context.Context) *callFacts {
	known, _ := ctx.Value(factsKey{}).(*callFacts)
	return known
}

// sentText returns the fact in the words of a status.
func (k *callFacts) sentText() string {
	if k.sent.Load() {
		return report.SentMaybe
	}
	return report.SentNo
}
