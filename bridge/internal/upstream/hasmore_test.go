package upstream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
)

// TestHasMore: a message can be received without a wait once the frame of DATA with its last
// byte has arrived.
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
		var late []byte // of a frame
		message, empty := framed(0, make([]byte, 100)), framed(0, nil)
		backend.end(func(c *frameConn, id uint32) { c.ok(id) })
		backend.end(func(c *frameConn, id uint32) {
			c.data(id, false, message)
			c.data(id, false, append(message[:len(message):len(message)], message[:50]...))
			late = bytes.Clone(c.out.Bytes()[c.out.Len()-1:])
			c.out.Truncate(c.out.Len() - 1)
		})
		receive(100, false)
		backend.end(func(c *frameConn, _ uint32) { c.out.Write(late) })
		receive(100, false)
		sends(message[50:], message[:3])
		receive(100, false)
		sends(message[3:], empty, append(message[:len(message):len(message)], empty...), empty[:4])
		receive(100, true)
		receive(0, true)
		receive(100, true)
		receive(0, false)
		backend.end(func(c *frameConn, id uint32) {
			c.data(id, false, empty[4:])
			c.end(id, "grpc-status", "0")
		})
		receive(0, false)
		if !call.Ended() {
			t.Error("the end isn't at hand")
		}
		if _, err := call.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the call ends with %v", err)
		}
	})
}
