package edge

import (
	"net"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// A batch gathers the parts of an HTTP/1.1 answer that net/http writes while more of
// the answer follows at once: net/http's own buffer is 4 KiB, and each full buffer is a
// system call. The zero value passes everything on. One goroutine at a time uses it:
// the one that answers.
type batch struct {
	pool mem.BufferPool
	held *[]byte // nil: writes pass at once
}

// maxBatchBytes is the most that a batch holds.
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
		n, err := c.Write(p)
		return socket.WriteLate(c, p, n, err)
	}
	if len(*b.held)+len(p) <= cap(*b.held) {
		*b.held = append(*b.held, p...)
		return len(p), nil
	}
	both := net.Buffers{*b.held, p}
	n, err := socket.WriteAll(c, &both)
	n -= len(*b.held)
	*b.held = (*b.held)[:0]
	return max(n, 0), err
}

// end sends the held bytes.
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
	n, err := c.Write(*held)
	_, err = socket.WriteLate(c, *held, n, err)
	return err
}

// HoldWrites begins to gather the writes of an HTTP/1.1 answer, if the HTTP server
// writes to the client's socket with no TLS in between.
func (c *Conn) HoldWrites(pool mem.BufferPool) {
	if c.plain() {
		c.client.batch.hold(pool)
	}
}

// SendHeld sends the gathered writes.
func (c *Conn) SendHeld() error {
	if c.plain() {
		return c.client.batch.end(c.client.Conn)
	}
	return nil
}

func (c *Conn) plain() bool { return c.client != nil && c.conn == net.Conn(c.client) }
