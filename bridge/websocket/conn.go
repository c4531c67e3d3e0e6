package websocket

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/socket"
)

// A Conn is the server's end of a WebSocket. One goroutine at a time reads,
// and any may write, ping, close and drop beside it.
//
// Time is bounded by deadlines on the connection itself: a context that ends
// would close it, and then the client couldn't be told anything any more.
type Conn struct {
	line   *line
	closed func() // tells the owner that the connection is gone

	in      messageSource
	reading atomic.Bool // a reader waits, so pongs would be seen
	writing atomic.Bool // a message is being written: pings wait behind it

	pong         pongDue
	doubts       doubts
	slowConsumer time.Duration // KeepAlive's; Close heeds it

	pingMu   sync.Mutex
	pinging  sync.WaitGroup
	pingAt   *time.Timer
	pongAt   *time.Timer
	pingsOff bool
}

// WriteMessage sends one binary message, given in pieces, and keeps none of
// them; between large ones it calls wrote, if that isn't nil. If more follows at
// once, the message may wait for that, up to 32 KiB of messages. It waits for
// the client as long as the write deadline lets it. After an error, and after a
// close frame, every further one is net.ErrClosed: nothing can follow.
func (c *Conn) WriteMessage(wrote func(), more bool, pieces ...[]byte) error {
	c.line.mu.Lock()
	c.writing.Store(true)
	err := c.line.message(wrote, more, pieces)
	if err == nil && c.line.held == nil {
		err = c.sendPong()
	}
	c.writing.Store(false) // before another has the line
	if late := c.line.unlock(); err == nil {
		err = late
	}
	return err
}

// Held is how many bytes of messages wait for more to follow.
func (c *Conn) Held() int { return c.line.waiting() }

// Sent says whether everything that was written has left for the client: the
// kernel has it.
func (c *Conn) Sent() bool { return !c.line.lost.Load() && c.line.waiting() == 0 }

// NetConn is the connection under the WebSocket, to be looked at.
func (c *Conn) NetConn() net.Conn { return c.line.conn }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.setReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when NextMessage and Read give up.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setReadDeadline(t) }

// SetWriteDeadline sets when WriteMessage gives up, and with it every write
// that follows: half a frame can't be taken back.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.line.conn.SetWriteDeadline(t) }

// longAgo as a deadline makes what waits return now.
var longAgo = time.Unix(1, 0)

// Close closes the WebSocket with a handshake that no peer can make last longer
// than patience from when it has taken what was written before. A slow reader may
// take that as long as it could take a message, unless hurry returns true. If a
// close frame was said already, the code is not. RFC 6455 §7.1.
func (c *Conn) Close(code StatusCode, patience time.Duration, hurry func() bool) {
	_ = c.SetDeadline(time.Now().Add(patience)) // a closed connection needs none
	c.stopPings()
	if c.line.sendClose(code) == nil {
		p := socket.Pulse{Conn: c.line.conn, Patience: c.slowConsumer}
		waited := false
		for now := time.Now(); !c.awaitClose() && !hurry() && p.Busy(now); now = time.Now() {
			_ = c.SetReadDeadline(now.Add(socket.PulseAgain)) // a closed connection needs none
			waited = true
		}
		if waited && !hurry() {
			_ = c.SetReadDeadline(time.Now().Add(patience)) // likewise
			c.awaitClose()
		}
	}
	_ = c.line.conn.Close() // it is over either way
	c.closed()
}

// Drop closes the connection at once, whoever reads or writes.
func (c *Conn) Drop() {
	_ = c.SetDeadline(longAgo) // a closed connection needs none
	c.stopPings()
	_ = c.line.conn.Close() // it is over either way
	c.closed()
}
