// Package buffer reuses memory: a pool of buffers of a few sizes, and pooled buffers
// that grow.
package buffer

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// A Pool is a mem.BufferPool of a few sizes. grpc-go's own pools clear each buffer
// before its reuse, in vain: every user fills the buffer before reading it. Several
// goroutines may use a Pool at once.
type Pool []tier

type tier struct {
	size int
	pool *sync.Pool
}

var _ mem.BufferPool = Pool(nil)

// NewPool returns a pool with these sizes in bytes, in rising order.
func NewPool(sizes ...int) Pool {
	p := make(Pool, len(sizes))
	for i, size := range sizes {
		p[i] = tier{size, new(sync.Pool)}
	}
	return p
}

// Get returns a buffer of the length, with the smallest capacity that is large
// enough. It allocates one larger than the largest size. The contents are undefined.
func (p Pool) Get(length int) *[]byte {
	for _, tier := range p {
		if length > tier.size {
			continue
		}
		if buf, ok := tier.pool.Get().(*[]byte); ok {
			*buf = (*buf)[:length]
			return buf
		}
		buf := make([]byte, length, tier.size)
		return &buf
	}
	buf := make([]byte, length)
	return &buf
}

// Put takes a buffer back. It leaves a buffer of any other size to the garbage
// collector.
func (p Pool) Put(buf *[]byte) {
	for _, tier := range p {
		if cap(*buf) == tier.size {
			tier.pool.Put(buf)
			return // it comes from elsewhere
		}
	}
}
