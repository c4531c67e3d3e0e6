package edge

import (
	"net"

	"google.golang.org/grpc/mem"
)

// A batch gathers what net/http writes of an HTTP/1.1 answer while more of it
// follows at once: its own buffer is 4 KiB, and each time that is full is a
// system call. The zero value passes everything on. It is used by one
// goroutine at a time: the one that answers.
type batch struct {
	pool mem.BufferPool
	held *[]byte // nil: what is written goes out at once
}

// maxBatchBytes is what a batch holds at most.
const maxBatchBytes = 32 << 10

// hold begins a batch, if none was begun.
func (b *batch) hold(pool mem.BufferPool) {
	if b.held == nil {
		b.pool = pool
		b.held = pool.Get(maxBatchBytes)
		*b.held = (*b.held)[:0]
	}
}

// write passes p on, or holds it.
func (b *batch) write(c net.Conn, p []byte) (int, error) {
	if b.held == nil {
		return c.Write(p)
	}
	if len(*b.held)+len(p) <= cap(*b.held) {
		*b.held = append(*b.held, p...)
		return len(p), nil
	}
	both := net.Buffers{*b.held, p}
	n, err := both.WriteTo(c)
	n -= int64(len(*b.held))
	*b.held = (*b.held)[:0]
	return int(max(n, 0)), err
}

// end sends what is held.
func (b *batch) end(c net.Conn) error {
	if b.held == nil {
		return nil
	}
	held := b.held
	b.held = nil
	defer b.pool.Put(held)
	if len(*held) == 0 {
		return nil
	}
	_, err := c.Write(*held)
	return err
}

// HoldWrites begins to gather what is written of an HTTP/1.1 answer, where the HTTP
// server writes to the client's socket with no TLS in between.
func (c *Conn) HoldWrites(pool mem.BufferPool) {
	if c.plain() {
		c.client.batch.hold(pool)
	}
}

// SendHeld sends what was gathered.
func (c *Conn) SendHeld() error {
	if c.plain() {
		return c.client.batch.end(c.client.Conn)
	}
	return nil
}

func (c *Conn) plain() bool { return c.client != nil && c.conn == net.Conn(c.client) }
