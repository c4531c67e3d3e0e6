package memory

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// A Claim is the room of one request message. It is the mem.BufferPool of the
// message's buffers, so that the message counts until the last reference to
// the last of them is freed, also while grpc-go has them queued. A buffer of up to
// UnpooledBytes counts only until the reader calls Done.
type Claim struct {
	entry   *Entry
	bytes   [classes]int
	buffers atomic.Int64  // those that are out, and one for the reader
	first   [1]mem.Buffer // the message, if it is one buffer: spares the heap
}

// NewClaim returns a claim without room.
func NewClaim(e *Entry) *Claim {
	c := &Claim{entry: e}
	c.buffers.Store(1)
	return c
}

// Reserve waits for room for n more bytes of the message.
func (c *Claim) Reserve(ctx context.Context, of Class, n int) error {
	if err := c.entry.reserve(ctx, of, n); err != nil {
		return err
	}
	c.bytes[of] += n
	return nil
}

// Messages of up to UnpooledBytes are cheaper made than kept in a pool; those
// of pooledBytes and more grpc-go gives back to their pool.
const (
	UnpooledBytes = 256
	pooledBytes   = 1<<10 + 1
)

// Buffer returns a buffer of the length; room for it is reserved.
func (c *Claim) Buffer(length int) mem.Buffer {
	if length <= UnpooledBytes {
		return mem.SliceBuffer(make([]byte, length))
	}
	buf := c.Get(max(length, pooledBytes)) // grpc-go gives a smaller one to the garbage collector
	*buf = (*buf)[:length]
	return mem.NewBuffer(buf, c)
}

// Get implements mem.BufferPool.
func (c *Claim) Get(length int) *[]byte {
	c.buffers.Add(1)
	return c.entry.account.Pool.Get(length)
}

// Put implements mem.BufferPool.
func (c *Claim) Put(buf *[]byte) {
	c.entry.account.Pool.Put(buf)
	c.Done()
}

// Trim gives back what is reserved of a class beyond n bytes. Only the reader calls it,
// before Done.
func (c *Claim) Trim(of Class, n int) {
	if more := c.bytes[of] - n; more > 0 {
		c.bytes[of] -= more
		c.entry.Sub(of, more)
	}
}

// Done ends the reader's part, or a buffer's.
func (c *Claim) Done() {
	if c.buffers.Add(-1) > 0 {
		return
	}
	for of, n := range c.bytes {
		if n > 0 {
			c.entry.Sub(Class(of), n)
		}
	}
}

// Slice returns an empty message with room for one buffer, which costs no heap.
func (c *Claim) Slice() mem.BufferSlice { return c.first[:0] }
