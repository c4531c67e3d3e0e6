package bridge

import (
	"context"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// replies is how far a call's replies have got.
type replies struct {
	begun  bool // their header was waited for
	packed bool // the upstream compresses its messages
	parks  bool // the client's end parks, and looks at what waits
	kept   bool // the client's end may keep one, for more that follows

	sent struct{ messages, bytes int32 } // small messages that still count with the call
}

// Small messages stop counting with the call from so many on, while more follow them.
const (
	giveBackMessages = 64
	giveBackBytes    = 16 << 10
)

// nextReply returns the next message, which the caller frees. The message counts with the call
// until sentReply: it has counted since it arrived, and decompression makes it larger.
func (c *call) nextReply(ctx context.Context) (mem.BufferSlice, error) {
	m, err := c.up.Recv()
	if err != nil || !c.replies.packed {
		return m, err
	}
	bytes := m.Len()
	c.up.Sent(1, c.up.Wire())
	if of := memory.ClassOf(bytes); of == memory.Small {
		c.held.Add(of, bytes)
	} else if err := c.held.Expanded(ctx, bytes); err != nil {
		m.Free()
		return nil, err
	}
	return m, nil
}

// moreReplies reports whether another message or the end is at hand. A message that is
// decompressed isn't, since it may have to wait for room. A conversion may have to wait, too, but
// calls SendKept before.
func (c *call) moreReplies() bool {
	if c.up.HasMore() {
		return !c.replies.packed
	}
	return c.up.Ended()
}

// sentReply gives back what a message of this size counted: with others, if more follow.
func (c *call) sentReply(bytes int, more bool) {
	sent := &c.replies.sent
	switch {
	case c.replies.packed:
		c.held.Sub(memory.ClassOf(bytes), bytes)
	case memory.ClassOf(bytes) == memory.Reply:
		c.up.Sent(1, bytes)
	default:
		sent.messages++
		sent.bytes += int32(bytes)
	}
	if sent.messages > 0 && (!more || c.replies.parks || sent.messages >= giveBackMessages || sent.bytes >= giveBackBytes) {
		c.up.Sent(int(sent.messages), int(sent.bytes))
		sent.messages, sent.bytes = 0, 0
	}
}
