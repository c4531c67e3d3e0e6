package upstream

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
)

// TestHasMore: a message that has arrived in part can't be received without a wait, and a whole
// one can, however the backend cuts it into frames.
func TestHasMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan heldFrames, 1)
		u := upstreamTo(t, framesInBubble(t, holdFrames(held)))
		call, err := openCall(t.Context(), u, Request{Method: testMethod})
		if err != nil {
			t.Fatal(err)
		}
		backend := <-held
		sends := func(pieces ...[]byte) {
			backend.end(func(c *frameConn, id uint32) {
				for _, piece := range pieces {
					c.data(id, false, piece)
				}
			})
		}
		receive := func(size int, more bool) {
			t.Helper()
			m, err := call.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if m.Len() != size || call.HasMore() != more {
				t.Errorf("a message of %d bytes, more %v; want %d, %v", m.Len(), call.HasMore(), size, more)
			}
			m.Free()
			call.Sent(1, size)
		}
		message, empty := framed(0, make([]byte, 100)), framed(0, nil)
		backend.end(func(c *frameConn, id uint32) { c.ok(id) })
		sends(message, message[:50])
		receive(100, false)
		sends(message[50:], message[:3])
		receive(100, false)
		sends(message[3:], empty, append(message, empty...), empty[:4])
		receive(100, true)
		receive(0, true)
		receive(100, true)
		receive(0, false)
		backend.end(func(c *frameConn, id uint32) {
			c.data(id, false, empty[4:])
			c.end(id, "grpc-status", "0")
		})
		receive(0, true)
		if _, err := call.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the call ends with %v", err)
		}
	})
}
