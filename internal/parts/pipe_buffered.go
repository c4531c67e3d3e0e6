package parts

import (
	"io"
	"net"
	"sync"
	"time"
)

// Buffered returns the connection with writes that never wait, as those of a socket with room
// in its buffers. Both ends of a net.Pipe need that when they may write at the same time, as
// TLS does. Close sends what was written before.
func Buffered(c net.Conn) net.Conn {
	b := &buffered{Conn: c}
	b.changed.L = &b.mu
	b.pump.Go(b.send)
	return b
}

type buffered struct {
	net.Conn
	pump sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	queue   []byte
	closed  bool
	failed  error
}

func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failed != nil:
		return 0, b.failed
	case b.closed:
		return 0, net.ErrClosed
	}
	b.queue = append(b.queue, p...)
	b.changed.Signal()
	return len(p), nil
}

// Close ends a Read that waits, and returns before the other end has read what was written.
// What the other end writes from then on is dropped.
func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		_ = b.Conn.Close() // a pipe's never fails
	}
	if !b.closed {
		b.closed = true
		_ = b.Conn.SetReadDeadline(time.Unix(1, 0)) // a pipe's never fails
		b.pump.Go(func() {
			_ = b.Conn.SetReadDeadline(time.Time{}) // a pipe's never fails
			_, _ = io.Copy(io.Discard, b.Conn)      // until either end is closed
		})
	}
	b.changed.Signal()
	return nil
}

func (b *buffered) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	return n, err
}

// SetWriteDeadline does nothing: writes don't wait. What was written may still be on its way
// when TLS sets a deadline that has passed, at its end.
func (b *buffered) SetWriteDeadline(time.Time) error { return nil }

func (b *buffered) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }

func (b *buffered) send() {
	for {
		b.mu.Lock()
		for len(b.queue) == 0 && !b.closed {
			b.changed.Wait()
		}
		queue := b.queue
		b.queue = nil
		b.mu.Unlock()
		if len(queue) == 0 {
			_ = b.Conn.Close() // a pipe's never fails
			return
		}
		if _, err := b.Conn.Write(queue); err != nil {
			b.mu.Lock()
			b.failed, b.queue = err, nil
			b.mu.Unlock()
			return // the other end is closed, and reads get its end
		}
	}
}
