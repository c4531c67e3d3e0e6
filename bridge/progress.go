package bridge

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// The pump calls the client and the backend through these methods only, so every wait
// is noted in one place.

// recv reads the client's next message.
func (c *call) recv() (mem.BufferSlice, error) {
	c.progress.Receiving.Store(true)
	defer c.progress.Receiving.Store(false)
	return c.down.Recv()
}

// awaitEnd waits for the client to go away.
func (c *call) awaitEnd(down endAwaiter) error {
	c.progress.Receiving.Store(true)
	defer c.progress.Receiving.Store(false)
	return down.AwaitEnd()
}

// pass sends a message to the backend.
func (c *call) pass(m mem.BufferSlice) error {
	if c.conn != nil {
		c.held.Add(memory.Small, memory.BehindBytes)
		defer c.held.Sub(memory.Small, memory.BehindBytes)
	}
	if c.up.Full() {
		c.progress.BlockedIn.Store(true)
		defer c.progress.BlockedIn.Store(false)
	}
	return c.up.Send(m)
}

// sendHeader sends the client the header.
func (c *call) sendHeader(md metadata.MD, more bool) error {
	c.progress.BeginSend()
	defer c.progress.EndSend()
	return c.down.SendHeader(md, more)
}

// send sends the client a message.
func (c *call) send(m mem.BufferSlice, more bool) error {
	c.progress.BeginSend()
	defer c.progress.EndSend()
	c.replies.kept = more
	return c.down.Send(m, more)
}

// SendKept implements memory.Keeper: it sends the replies that the client's end keeps.
func (c *call) SendKept() {
	if !c.replies.kept {
		return
	}
	c.replies.kept = false
	c.progress.BeginSend()
	defer c.progress.EndSend()
	_ = c.down.Flush() // the next Send meets the error
}

// finish tells the client the end.
func (c *call) finish(st *status.Status, trailer metadata.MD) error {
	c.progress.BeginSend()
	defer c.progress.EndSend()
	return c.down.Finish(st, trailer)
}
