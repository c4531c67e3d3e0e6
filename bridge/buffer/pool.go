// Package buffer is memory that is used again: a pool of buffers of a few
// sizes, and buffers of a pool that grow.
package buffer

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// A Pool is a mem.BufferPool of a few sizes. grpc-go's own clear each buffer
// that is used again, for nothing: whoever gets one here fills it before it is
// read. It may be used by several goroutines at once.
type Pool []tier

type tier struct {
	size int
	pool *sync.Pool
}

var _ mem.BufferPool = Pool(nil)

// NewPool takes the sizes in bytes, in rising order.
func NewPool(sizes ...int) Pool {
	p := make(Pool, len(sizes))
	for i, size := range sizes {
		p[i] = tier{size, new(sync.Pool)}
	}
	return p
}

// Get returns a buffer of the length, of the smallest size that has room for
// it; a larger one than the largest is made for this once. What it holds is
// anything.
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

// Put takes a buffer back. One that is no tier's is left to the collector.
func (p Pool) Put(buf *[]byte) {
	for _, tier := range p {
		if cap(*buf) == tier.size {
			tier.pool.Put(buf)
			return // it is somebody else's
		}
	}
}
