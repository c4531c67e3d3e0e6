package websocket

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// A Conn is one end of a WebSocket. One goroutine at a time reads. Beside
// it, any goroutine may write, ping, close and drop.
//
// Deadlines on the connection itself bound every wait: a context that ends would
// close the connection, and then nothing more could be sent to the client.
type Conn struct {
	line   *line
	closed func(net.Conn) // tells the owner that the connection is gone; nil: it needn't know
	told   sync.Once      // it does

	panicked func(v any) // from Options; it may be nil

	in      messageSource
	reading atomic.Bool // a reader waits, so pongs would be seen
	writing atomic.Bool // a message is being written: pings wait behind it

	pong         pongDue
	doubts       doubts
	slowConsumer time.Duration // from KeepAlive; Close uses it

	pingMu   sync.Mutex
	pinging  sync.WaitGroup
	pingAt   *time.Timer
	pongAt   *time.Timer
	pingsOff bool
}

// WriteMessage sends one message, given in pieces, and keeps none of them;
// between large ones it calls wrote, if that isn't nil. If more follows at once, the
// message may wait for that, up to 32 KiB of messages. It waits for the peer until
// the write deadline. After an error, or a close frame, it returns net.ErrClosed:
// nothing can follow.
func (c *Conn) WriteMessage(kind Opcode, wrote func(), more bool, pieces ...[]byte) error {
	return c.write(func() error { return c.line.message(kind, wrote, more, pieces) })
}

// Flush sends the messages that wait for more to follow.
func (c *Conn) Flush() error { return c.write(c.line.flush) }

// write writes, and then answers a ping unless messages wait for more to follow.
func (c *Conn) write(write func() error) error {
	c.line.mu.Lock()
	defer c.line.abandon()
	c.writing.Store(true)
	err := write()
	if err == nil && c.line.held == nil {
		err = c.sendPong()
	}
	c.writing.Store(false) // before another has the line
	if late := c.line.unlock(); err == nil {
		err = late
	}
	return err
}

// Held returns how many bytes of messages wait for more to follow.
func (c *Conn) Held() int { return c.line.waiting() }

// Sent reports whether all written data has left for the client: the kernel has it.
func (c *Conn) Sent() bool { return !c.line.lost.Load() && c.line.waiting() == 0 }

// NetConn returns the connection under the WebSocket, to inspect it.
func (c *Conn) NetConn() net.Conn { return c.line.conn }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline sets the deadline of WriteMessage. If it passes, every later write
// fails too: half a frame can't be taken back.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.line.conn.SetWriteDeadline(t) }

// Close closes the WebSocket with a close handshake. The reason is at most 123
// bytes of UTF-8 (RFC 6455 §5.5). The peer has patience for its answer, from when it has
// accepted the earlier data. A slow reader may take as long for that data as for a
// message, unless hurry returns true. If a close frame was sent already, code is not
// sent. A client leaves it to the server to close the connection, also within patience.
// RFC 6455 §7.1.
func (c *Conn) Close(code StatusCode, reason string, patience time.Duration, hurry func() bool) {
	_ = c.SetDeadline(time.Now().Add(patience)) // a closed connection needs none
	c.stopPings()
	if c.line.sendClose(code, reason) == nil {
		p := socket.Pulse{Conn: c.line.conn, Patience: c.slowConsumer}
		waited := false
		for now := time.Now(); !c.awaitClose() && !hurry() && p.Busy(now); now = time.Now() {
			_ = c.SetReadDeadline(now.Add(socket.PulseAgain)) // a closed connection needs none
			waited = true
		}
		if waited && !hurry() {
			_ = c.SetReadDeadline(time.Now().Add(patience)) // a closed connection needs none
			c.awaitClose()
		}
		if c.line.masks != nil {
			c.awaitEnd()
		}
	}
	c.closeConn()
}

// Drop closes the connection at once, also during reads and writes.
func (c *Conn) Drop() {
	_ = c.SetDeadline(socket.LongAgo) // a closed connection needs none
	c.stopPings()
	c.closeConn()
}

func (c *Conn) closeConn() {
	if c.line.masks != nil {
		socket.Cut(c.line.conn) // TLS would say goodbye, for up to 5 s, to a server that has closed
	}
	_ = c.line.conn.Close() // it is over either way
	if c.closed != nil {
		c.told.Do(func() { c.closed(c.line.conn) })
	}
}
