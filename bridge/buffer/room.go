package buffer

import "google.golang.org/grpc/mem"

// WithRoom returns the buffer with room for n bytes more behind what it holds:
// itself, or a larger one in its place, and then the old one is the pool's
// again. nil stands for an empty one; both are the pool's.
func WithRoom(pool mem.BufferPool, buf *[]byte, n int) *[]byte {
	if buf != nil && cap(*buf)-len(*buf) >= n {
		return buf
	}
	size := n
	if buf != nil {
		size = max(len(*buf)+n, 2*cap(*buf))
	}
	grown := pool.Get(size)
	*grown = (*grown)[:0]
	if buf != nil {
		*grown = append(*grown, *buf...)
		pool.Put(buf)
	}
	return grown
}

// Len is how many bytes a buffer holds; nil is an empty one.
func Len(buf *[]byte) int {
	if buf == nil {
		return 0
	}
	return len(*buf)
}
