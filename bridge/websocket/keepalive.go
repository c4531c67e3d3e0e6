package websocket

import (
	"errors"
	"sync"
	"time"
)

// pongDue is the ping that is still to be answered. RFC 6455 §5.5.3: only the
// latest has to be.
type pongDue struct {
	mu      sync.Mutex
	due     bool
	payload [maxControl]byte
	length  int
}

// answer notes a ping, and answers it now if the line is free. Otherwise the
// message that is being written goes first.
func (c *Conn) answer(payload []byte) {
	c.pong.mu.Lock()
	c.pong.length = copy(c.pong.payload[:], payload)
	c.pong.due = true
	c.pong.mu.Unlock()
	c.tryPong()
}

// pongRetry is how soon a pong is tried again that found the line taken.
const pongRetry = 250 * time.Millisecond

// tryPong sends the pong that is due if the line is free, and else tries
// again, unless a message that is written meanwhile brings it along.
func (c *Conn) tryPong() {
	if c.line.mu.TryLock() {
		free := c.line.free()
		if free {
			_ = c.sendPong() // the reader meets the same error
		}
		c.line.leave()
		if free {
			return
		}
	}
	c.schedule(&c.pongAt, pongRetry, func() {
		c.pong.mu.Lock()
		due := c.pong.due
		c.pong.mu.Unlock()
		if due {
			c.tryPong()
		}
	})
}

// sendPong answers the latest ping, if none did and nothing was said to be the
// last. The connection's mu is held.
func (c *Conn) sendPong() error {
	c.pong.mu.Lock()
	due := c.pong.due && !c.line.ended.Load()
	var frame []byte
	if due {
		frame = appendControl(nil, opPong, c.pong.payload[:c.pong.length])
		c.pong.due = false
	}
	c.pong.mu.Unlock()
	if !due {
		return nil
	}
	c.line.hold(frame)
	return c.line.flush()
}

var errNoPong = errors.New("no pong in time")

// KeepAlive pings the client at every interval until the WebSocket is closed.
// It calls gone, once, when nothing came from the client for so much patience
// after a ping although somebody was reading all the time. While its owner holds
// the reader back, or the client reads nothing, silence says nothing. It costs a
// timer and no goroutine: gone must not block, nor close the WebSocket, which
// waits for it.
func (c *Conn) KeepAlive(interval, patience time.Duration, gone func(error)) {
	var ping func()
	ping = func() {
		before, listening := c.line.received.Load(), c.listening()
		if !c.ping() {
			c.schedulePing(interval, ping)
			return
		}
		c.schedulePing(patience, func() {
			if listening && c.listening() && c.line.received.Load() == before {
				gone(errNoPong)
				return
			}
			c.schedulePing(interval-patience, ping)
		})
	}
	c.schedulePing(interval, ping)
}

// listening holds while a pong would be seen and isn't held up itself.
func (c *Conn) listening() bool { return c.reading.Load() && !c.writing.Load() }

// ping writes a ping unless a message is in its way.
func (c *Conn) ping() bool {
	if !c.line.mu.TryLock() {
		return false
	}
	sent := false
	if c.line.free() && !c.line.ended.Load() {
		c.line.hold(appendControl(nil, opPing, nil))
		sent = c.line.flush() == nil // else the reader meets the same error
	}
	c.line.leave()
	return sent
}

func (c *Conn) schedulePing(after time.Duration, f func()) { c.schedule(&c.pingAt, after, f) }

// schedule runs f later, in place of what the timer was to do before, unless
// stopPings comes first.
func (c *Conn) schedule(at **time.Timer, after time.Duration, f func()) {
	c.pingMu.Lock()
	defer c.pingMu.Unlock()
	if c.pingsOff {
		return
	}
	if *at != nil && (*at).Stop() {
		c.pinging.Done()
	}
	c.pinging.Add(1)
	*at = time.AfterFunc(after, func() {
		defer c.pinging.Done()
		f()
	})
}

func (c *Conn) stopPings() {
	c.pingMu.Lock()
	c.pingsOff = true
	for _, at := range []*time.Timer{c.pingAt, c.pongAt} {
		if at != nil && at.Stop() {
			c.pinging.Done()
		}
	}
	c.pingMu.Unlock()
	c.pinging.Wait() // none of them blocks
}
