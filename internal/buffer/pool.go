// Package buffer reuses memory: a pool of buffers of some sizes, and pooled buffers
// that grow.
package buffer

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// A Pool is a mem.BufferPool of some sizes. grpc-go's own pools clear each buffer
// before its reuse, in vain: every user fills the buffer before reading it. Several
// goroutines may use a Pool at once.
type Pool []tier

type tier struct {
	size int
	pool *sync.Pool
}

var _ mem.BufferPool = Pool(nil)

// NewPool returns a pool of buffers of smallest to largest bytes. Each size is at most a
// quarter more than the one before, so that a buffer is hardly larger than what it holds:
// that alone is counted. Both are powers of two, and smallest is at least 4.
func NewPool(smallest, largest int) (p Pool) {
	for size := smallest; size < largest; size *= 2 {
		for quarter := range 4 {
			p = append(p, tier{size + quarter*size/4, new(sync.Pool)})
		}
	}
	return append(p, tier{largest, new(sync.Pool)})
}

// from returns the index of the smallest size of at least n bytes, and whether it is n.
// Each message asks twice, so it is computed.
func (p Pool) from(n int) (int, bool) {
	smallest, largest := p[0].size, p[len(p)-1].size
	switch {
	case n <= smallest:
		return 0, n == smallest
	case n > largest:
		return len(p), false
	}
	length := bits.Len(uint(n - 1))
	quarter := (n - 1) >> (length - 3) // 4 to 7: of the power of two above n, in eighths
	i := 4*(length-bits.Len(uint(smallest-1))) + quarter - 7
	return i, n == p[i].size
}

// Get returns a buffer of the length, with the smallest capacity that is large
// enough. It allocates one larger than the largest size. The contents are undefined.
func (p Pool) Get(length int) *[]byte {
	size := length
	if i, _ := p.from(length); i < len(p) {
		if buf, ok := p[i].pool.Get().(*[]byte); ok {
			*buf = (*buf)[:length]
			return buf
		}
		size = p[i].size
	}
	return new(make([]byte, length, size))
}

// Put takes a buffer back. It leaves a buffer of any other size to the garbage
// collector.
func (p Pool) Put(buf *[]byte) {
	if i, pooled := p.from(cap(*buf)); pooled { // else it comes from elsewhere
		p[i].pool.Put(buf)
	}
}
