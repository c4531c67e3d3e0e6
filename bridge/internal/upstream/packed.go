package upstream

import (
	"sync"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// A packedRequests counts the requests of a call that grpc-go compresses, while they are in its
// queue. The size of each is known once its prefix leaves. Before that, the sizes that they
// had, and that of the queue, bound it.
type packedRequests struct {
	mu      sync.Mutex
	plain   fifo[int64] // the sizes of the requests whose prefix hasn't left, before they were compressed
	sum     int64       // of plain
	last    int64       // of plain
	leaving arriving
	counted int64 // with the call
	ended   bool
}

// queue notes that grpc-go is about to compress a request of n bytes.
func (p *packedRequests) queue(e *memory.Entry, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plain.push(n)
	p.sum += n
	p.last = n
	p.count(e)
}

// wrote notes that a part of the requests is on its way.
func (p *packedRequests) wrote(e *memory.Entry, part []byte) {
	e.Moved(len(part))
	p.mu.Lock()
	defer p.mu.Unlock()
	for begun := false; len(part) > 0; {
		if part, begun = p.leaving.step(part); begun {
			n, _ := p.plain.pop() // 0 if grpc-go sends some again
			p.sum -= n
		}
	}
	p.count(e)
}

// begins notes that the call begins on a stream, perhaps again.
func (p *packedRequests) begins(e *memory.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = arriving{}
	p.count(e)
}

// end gives everything back.
func (p *packedRequests) end(e *memory.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.count(e)
}

// bytes returns how many bytes are queued at most.
func (p *packedRequests) bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most()
}

// most returns how many bytes are queued at most: SendMsg returns once less than
// streamQueueBytes are queued before its message. mu is held.
func (p *packedRequests) most() int64 {
	waiting := int64(p.plain.len())
	return p.leaving.left + min(p.sum+waiting*packedMore, streamQueueBytes+p.last)
}

// packedMore is about how many bytes longer a small message is in gzip, with its prefix.
const packedMore = 32

// count counts what is queued with the call. mu is held.
func (p *packedRequests) count(e *memory.Entry) {
	cost := p.most() + queuedBytes*int64(p.plain.len())
	if p.leaving.left > 0 {
		cost += queuedBytes
	}
	if p.ended {
		cost = 0
	}
	if cost > p.counted {
		e.Add(memory.Request, int(cost-p.counted))
	} else if cost < p.counted {
		e.Sub(memory.Request, int(p.counted-cost))
	}
	p.counted = cost
}
