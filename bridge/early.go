package bridge

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// An earlyRead lets the goroutine that copies requests start while the Authenticator
// runs, so that culvert notices when the client goes away. The goroutine reads one
// message, and holds it until the stream at the upstream is open. After it, the
// goroutine reads no other message: it waits for the client's end until the
// Authenticator has returned.
type earlyRead struct {
	down    endAwaiter
	decided atomic.Bool   // the goroutine waits for the end, or stop came first and it doesn't
	stopped chan struct{} // closed when it no longer waits for the end
	opened  chan struct{} // closed when the stream is open
}

// stop ends the wait for the client's end.
func (e *earlyRead) stop() {
	if !e.decided.Swap(true) {
		return
	}
	select {
	case <-e.stopped: // another message has begun, or the call ends
	default:
		e.down.StopAwaiting(e.stopped)
	}
}

// recvFirst returns the client's first message, once the stream at the upstream is open.
func (c *call) recvFirst() (mem.BufferSlice, error) {
	m, err := c.recv()
	if c.early == nil || err != nil && !errors.Is(err, io.EOF) {
		return m, err
	}
	if err := c.awaitOpen(c.early); err != nil {
		m.Free()
		return nil, err
	}
	return m, err
}

// awaitEnd waits for the client's end, or for stop.
func (e *earlyRead) awaitEnd(c *call) error {
	defer close(e.stopped)
	return c.awaitEnd(e.down)
}

// awaitOpen waits until the stream is open, or returns why the call ends before.
func (c *call) awaitOpen(e *earlyRead) error {
	if !e.decided.Swap(true) {
		if err := e.awaitEnd(c); err != nil {
			return err
		}
	}
	select {
	case <-e.opened:
		return nil
	case <-c.timed.Done():
		return context.Cause(c.timed)
	}
}
