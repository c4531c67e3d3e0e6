package wire

import (
	"sync"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// A packedRequests counts the requests of a call that grpc-go compresses, until they have
// left. Their own sizes, and that of grpc-go's queue, bound what they take there.
type packedRequests struct {
	mu           sync.Mutex
	plain        fifo[int64] // the sizes of the requests that haven't left whole, before they were compressed
	sum          int64       // of plain
	before, last int64       // the sizes of the last two
	leaving      arriving
	counted      int64 // with the call
}

// packedMore is about how many bytes longer a small message is in gzip, with its prefix.
const packedMore = 32

// queue notes that grpc-go is about to compress a request of n bytes.
func (p *packedRequests) queue(e *memory.Entry, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n += packedMore
	p.plain.push(n)
	p.sum += n
	p.before, p.last = p.last, n
	p.count(e)
}

// wrote notes that a part of the requests is on its way.
func (p *packedRequests) wrote(e *memory.Entry, part []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(part) > 0 {
		part, _ = p.leaving.step(part)
		if p.leaving.left == 0 && p.leaving.have == 0 {
			n, _ := p.plain.pop() // 0 if grpc-go sends some again
			p.sum -= n
		}
	}
	p.count(e)
}

// begins notes that the call begins on a stream, perhaps again.
func (p *packedRequests) begins() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = arriving{}
}

// end gives everything back.
func (p *packedRequests) end(e *memory.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plain, p.sum = fifo[int64]{}, 0
	p.count(e)
}

// isFull reports whether the queue may be full.
func (p *packedRequests) isFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum >= streamQueueBytes
}

// count counts what is queued with the call. The requests before the last two take less than
// the queue: SendMsg has returned for the one before the last. mu is held.
func (p *packedRequests) count(e *memory.Entry) {
	cost := min(p.sum, streamQueueBytes+p.before+p.last) + queuedBytes*int64(p.plain.len())
	if more := cost - p.counted; more > 0 {
		e.Add(memory.Request, int(more))
	} else {
		e.Sub(memory.Request, int(-more))
	}
	p.counted = cost
}
