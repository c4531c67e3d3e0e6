package client

import (
	"errors"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/internal/ping"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A connection with calls is pinged when nothing has come for a while, and lost when nothing
// answers: boxes drop connections without a word. The decision 0061 says which are pinged.
const (
	pingAfter   = 8 * time.Second // boxes may end what is quiet for 10 s
	pingTimeout = 4 * time.Second
)

var errGone = errors.New("the edge, or something on the way, sends nothing any more, not even the answer to a ping")

// Pings reports whether the other end forgives regular pings: culvert does, and inside a
// WebSocket there is no other server.
func (c *conn) Pings() bool { return c.culvert || c.way == WebSocket }

// pingFrame has a payload that grpc-go, which gets the answer, doesn't send. RFC 9113 §6.7.
var pingFrame = frame.Make(http2.FramePing, []byte("culvert!")...)

// watch pings the edge while calls run and nothing comes, until the connection ends. grpc-go's
// own keep-alive would be the same for each edge.
func (d *Dialer) watch(c *conn) {
	var wait ping.Wait
	var last time.Time // of a ping
	var read int64     // as c.read
	for next := d.o.pingAfter; ; {
		select {
		case <-c.doomed.Done():
			return
		case <-time.After(next):
		}
		unread := socket.Readable(c.Conn) // asked before c.read: then what was unread may be in it
		acked, _ := socket.Sent(c.Conn)
		if came := c.read.Load(); came != read {
			read = came
			wait.End()
		}
		now, quiet := time.Now(), time.Duration(c.now()-read)
		asks := c.Pings() || c.asked.Load() != 0 && now.Sub(last) >= ping.Seldom
		next = d.o.pingAfter
		switch {
		case wait.Look(now, c.position.Load(), acked, unread):
			c.gone.Store(true)
			socket.Cut(c.Conn) // it ends a Write that is stuck, too
			return
		case wait.Running():
			next = wait.Next().Sub(now)
		case quiet < d.o.pingAfter:
			next -= quiet
		case d.calls.Load() > 0 && asks:
			last = now
			c.position.Store(ping.Unsent)
			wait.Begin(now, pingTimeout, acked)
			next = wait.Next().Sub(now)
			c.due.Store(true)
			c.pingIfDue()
		}
	}
}

// pingIfDue writes a ping that is due between two frames. It doesn't wait for a write: that calls
// pingIfDue at its end.
func (c *conn) pingIfDue() {
	for c.due.Load() && c.writing.TryLock() {
		between := c.pingBetween()
		c.writing.Unlock()
		if !between {
			return // the rest of the frame is still to be written
		}
	}
}

// pingBetween reports whether it could write a ping. writing is held.
func (c *conn) pingBetween() bool {
	if !c.out.Between() {
		return false
	}
	if c.due.Swap(false) {
		c.asked.CompareAndSwap(0, c.now())
		acked, before := socket.Sent(c.Conn)
		c.position.Store(acked + before)
		_, _ = c.Conn.Write(pingFrame) // the reader meets the same error
	}
	return true
}
