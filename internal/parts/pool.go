package parts

import (
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// A CountingPool counts the buffers that are out, and all that were taken.
type CountingPool struct {
	mem.BufferPool
	Out, Gets atomic.Int64
}

// Get implements mem.BufferPool.
func (p *CountingPool) Get(n int) *[]byte {
	p.Out.Add(1)
	p.Gets.Add(1)
	return p.BufferPool.Get(n)
}

// Put implements mem.BufferPool.
func (p *CountingPool) Put(b *[]byte) {
	p.Out.Add(-1)
	p.BufferPool.Put(b)
}
