package buffer

import (
	"math/bits"

	"google.golang.org/grpc/mem"
)

// WithRoom returns the buffer with room for n more bytes after its contents: the same
// buffer, or a larger one, and then the old one goes back to the pool. nil stands for
// an empty buffer; both belong to the pool. Capacities are powers of two: writes have any
// length, and the pool would keep buffers of all its sizes for them.
func WithRoom(pool mem.BufferPool, buf *[]byte, n int) *[]byte {
	if buf != nil && cap(*buf)-len(*buf) >= n {
		return buf
	}
	size := n
	if buf != nil {
		size = max(len(*buf)+n, 2*cap(*buf))
	}
	grown := pool.Get(1 << bits.Len(uint(size-1)))
	*grown = (*grown)[:0]
	if buf != nil {
		*grown = append(*grown, *buf...)
		pool.Put(buf)
	}
	return grown
}

// Len returns how many bytes a buffer has; nil is an empty one.
func Len(buf *[]byte) int {
	if buf == nil {
		return 0
	}
	return len(*buf)
}
