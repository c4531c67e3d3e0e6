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

	sent struct{ messages, bytes int32 } // small messages that still count with the call
}

// giveBackBytes is from how many bytes small messages stop counting with the call while more
// follow them.
const giveBackBytes = 16 << 10

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

// moreReplies reports whether nextReply returns another message or the end without a wait.
func (c *call) moreReplies() bool {
	return c.up.HasMore() && !(c.replies.packed && c.s.account.Pressed())
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
	if sent.messages > 0 && (!more || sent.bytes >= giveBackBytes) {
		c.up.Sent(int(sent.messages), int(sent.bytes))
		sent.messages, sent.bytes = 0, 0
	}
}
