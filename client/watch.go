package client

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A connection with calls is pinged when nothing has come for a while, and lost when nothing
// answers: boxes drop connections without a word. The decision 0061 says which are pinged.
const (
	pingAfter   = 8 * time.Second // boxes may end what is quiet for 10 s
	pingTimeout = 4 * time.Second

	// seldom is the interval of pings that each server of gRPC forgives.
	seldom = 5*time.Minute + 10*time.Second
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
	var last time.Time // of a ping
	timer := time.NewTimer(d.o.pingAfter)
	defer timer.Stop()
	var awaited atomic.Int64 // c.read when the last ping became due
	giveUp := time.AfterFunc(time.Hour, func() {
		if c.read.Load() == awaited.Load() {
			c.gone.Store(true)
			socket.Cut(c.Conn) // it ends a Write that is stuck, too
		}
	})
	giveUp.Stop() // until there is a ping
	defer giveUp.Stop()
	for {
		select {
		case <-c.doomed.Done():
			return
		case <-timer.C:
		}
		read := c.read.Load()
		quiet := time.Duration(c.now() - read)
		asks := c.Pings() || c.asked.Load() != 0 && time.Since(last) >= seldom
		switch {
		case quiet < d.o.pingAfter:
			timer.Reset(d.o.pingAfter - quiet)
		case d.calls.Load() == 0 || !asks:
			timer.Reset(d.o.pingAfter)
		default:
			last = time.Now()
			if awaited.Swap(read) != read {
				giveUp.Reset(pingTimeout)
			}
			c.due.Store(true)
			c.pingIfDue()
			timer.Reset(d.o.pingAfter)
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
		_, _ = c.Conn.Write(pingFrame) // the reader meets the same error
	}
	return true
}
