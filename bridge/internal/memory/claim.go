package memory

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// A Claim is the room of one request message. It is the mem.BufferPool of the message's
// buffers, so the message counts until the last reference to its last buffer is freed,
// also while it is in grpc-go's queue. A buffer of up to UnpooledBytes counts only
// until the reader calls Done.
type Claim struct {
	entry   *Entry
	bytes   [Fixed]uint32
	buffers atomic.Int32  // buffers in use, and one for the reader
	first   [2]mem.Buffer // the message, if it is few buffers: saves an allocation
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
	c.bytes[of] += uint32(n)
	return nil
}

// Messages of up to UnpooledBytes are cheaper to allocate than to pool. grpc-go returns
// those of pooledBytes and more to their pool.
const (
	UnpooledBytes = 256
	pooledBytes   = 1<<10 + 1
)

// Buffer returns a buffer of the length, for which room is reserved.
func (c *Claim) Buffer(length int) mem.Buffer {
	if length <= UnpooledBytes {
		return mem.SliceBuffer(make([]byte, length))
	}
	buf := c.Get(max(length, pooledBytes)) // grpc-go leaves a smaller one to the garbage collector
	*buf = (*buf)[:length]
	return mem.NewBuffer(buf, c)
}

// Get implements mem.BufferPool.
func (c *Claim) Get(length int) *[]byte {
	c.buffers.Add(1)
	return c.entry.account.Pool.Get(length)
}

// Put implements mem.BufferPool. grpc-go calls it on a goroutine of the connection.
func (c *Claim) Put(buf *[]byte) {
	defer c.entry.catch()
	defer c.Done()
	c.entry.account.Pool.Put(buf)
}

// Trim gives back the reserved bytes of a class beyond n. Only the reader calls it,
// before Done.
func (c *Claim) Trim(of Class, n int) {
	if more := int(c.bytes[of]) - n; more > 0 {
		c.bytes[of] -= uint32(more)
		c.entry.Sub(of, more)
	}
}

// Done ends the use of the reader, or of a buffer.
func (c *Claim) Done() {
	if c.buffers.Add(-1) > 0 {
		return
	}
	for of, n := range c.bytes {
		if n > 0 {
			c.entry.Sub(Class(of), int(n))
		}
	}
}

// Slice returns an empty message with room for two buffers, without an allocation.
func (c *Claim) Slice() mem.BufferSlice { return c.first[:0] }

// Adopt lets a message that counts with another entry count with this one, until the
// last reference to its last buffer is freed: the other entry may be settled before that.
// Adopt takes the message over, and doesn't wait for room, which the message has. grpc-go
// counts a message of up to RoomlessBytes itself.
func (e *Entry) Adopt(m mem.BufferSlice) mem.BufferSlice {
	n := m.Len()
	if n <= RoomlessBytes {
		return m
	}
	c := NewClaim(e)
	c.bytes[RequestClass(n)] = uint32(n)
	e.Add(RequestClass(n), n)
	out := make(mem.BufferSlice, 0, len(m))
	for _, b := range m {
		data := b.ReadOnlyData()
		if cap(data) < pooledBytes {
			out = append(out, b)
			continue
		}
		c.buffers.Add(1)
		out = append(out, mem.NewBuffer(&data, adopted{c, b}))
	}
	c.Done()
	return out
}

// adopted is the mem.BufferPool of one buffer of an adopted message.
type adopted struct {
	claim *Claim
	of    mem.Buffer
}

// Get implements mem.BufferPool. Nobody calls it.
func (adopted) Get(int) *[]byte { panic("BUG: an adopted message has no buffers to give") }

func (a adopted) Put(*[]byte) {
	defer a.claim.entry.catch()
	defer a.claim.Done()
	a.of.Free()
}
