package bridge

import "google.golang.org/grpc/mem"

// withRoom returns the buffer with room for n bytes more, a larger one in its
// place if it has none. nil stands for an empty one; both are the pool's.
func withRoom(pool mem.BufferPool, buf *[]byte, n int) *[]byte {
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

// held is how much a buffer holds; nil is an empty one.
func held(buf *[]byte) int {
	if buf == nil {
		return 0
	}
	return len(*buf)
}
