package bridge

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// buffers is a mem.BufferPool of a few sizes. grpc-go's own clear each buffer
// that is used again, for nothing: whoever gets one here fills it before it is
// read.
type buffers []bufferTier

type bufferTier struct {
	size int
	pool *sync.Pool
}

var _ mem.BufferPool = buffers(nil)

// newBuffers takes the sizes in rising order.
func newBuffers(sizes ...int) buffers {
	b := make(buffers, len(sizes))
	for i, size := range sizes {
		b[i] = bufferTier{size, new(sync.Pool)}
	}
	return b
}

// Get returns a buffer of the length. What it holds is anything.
func (b buffers) Get(length int) *[]byte {
	for _, tier := range b {
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
func (b buffers) Put(buf *[]byte) {
	for _, tier := range b {
		if cap(*buf) == tier.size {
			tier.pool.Put(buf)
			return // it is somebody else's
		}
	}
}
