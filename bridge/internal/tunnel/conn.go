package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/buffer"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

const (
	closeTimeout = 2 * time.Second // to answer a WebSocket close, where HTTP/2 has said goodbye already
	maxMessage   = 32 << 10        // the most that HTTP/2 writes while the WebSocket is busy
)

// A Conn is a WebSocket as a net.Conn. Data written while the WebSocket is busy leaves as
// one message, up to a bound.
type Conn struct {
	of   *Listener
	ws   *websocket.Conn
	in   *tunnel.Reader
	on   *edge.Conn
	pool mem.BufferPool // of pending
	told string         // what Read answers first; Read's own

	writeMu sync.Mutex // held for a whole Write

	mu       sync.Mutex
	cond     sync.Cond
	pending  *[]byte // written and not yet sent; nil: nothing
	writeErr error
	done     bool                   // it is closed: nothing is read or written any more
	blocked  func() bool            // asks the HTTP/2 connection inside; nil: it hasn't begun
	leave    func(why, text string) // ends it, likewise
	code     websocket.StatusCode
	text     string // of the close frame
}

// End closes the tunnel, and notes why its WebSocket's connection ends.
func (c *Conn) End(why string) {
	c.on.Tunnel().Outer.End(why)
	code, _ := CloseCode(why)
	c.closeWith(code)
}

// Expel closes the tunnel, and tells the client why: by the goodbye of the HTTP/2 connection
// inside, and in the close frame.
func (c *Conn) Expel(why, text string) {
	c.on.Tunnel().Outer.End(why)
	c.on.End(why)
	c.mu.Lock()
	leave := c.leave
	c.text = text
	c.mu.Unlock()
	if leave != nil {
		leave(why, text) // it closes c
		return
	}
	code, _ := CloseCode(why)
	c.closeWith(code)
}

// Read reads from the WebSocket's binary messages, joined, behind what it tells net/http
// first (SendsPreface). After the tunnel is closed it returns net.ErrClosed.
func (c *Conn) Read(p []byte) (int, error) {
	if c.told != "" && !c.closed() {
		n := copy(p, c.told)
		c.told = c.told[n:]
		return n, nil
	}
	n, err := c.readOnce(p)
	switch {
	case err == nil:
	case errors.Is(err, tunnel.ErrText):
		c.closeWith(websocket.StatusUnsupportedData)
	default:
		err = c.readError(err)
	}
	return n, err
}

// readOnce is Read behind what is told. net/http's HTTP/2 calls Read, and Write, on
// goroutines that recover nothing.
func (c *Conn) readOnce(p []byte) (n int, err error) {
	defer c.of.o.Panics.Catch("a tunnel", func(f *report.Fault) { n, err = 0, f })
	return c.in.Read(p)
}

func (c *Conn) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// readError returns io.EOF for a close with any code.
func (c *Conn) readError(err error) error {
	c.on.NoteRead(err)
	if websocket.CloseStatus(err) != -1 {
		return io.EOF
	}
	if broken, ok := errors.AsType[websocket.RuleError](err); ok {
		c.on.Tunnel().Outer.End(endedBy(broken))
		c.closeWith(broken.Code)
	}
	return err
}

// Write takes the bytes over, and returns before they are sent unless the buffer is
// full.
func (c *Conn) Write(p []byte) (written int, err error) {
	defer c.of.o.Panics.Catch("a tunnel", func(f *report.Fault) { err = f })
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		for c.writeErr == nil && !c.done && buffer.Len(c.pending) >= maxMessage {
			c.cond.Wait()
		}
		if c.writeErr != nil {
			return written, c.writeErr
		}
		if c.done {
			return written, net.ErrClosed
		}
		n := min(len(p), maxMessage-buffer.Len(c.pending))
		c.pending = buffer.WithRoom(c.pool, c.pending, n)
		*c.pending = append(*c.pending, p[:n]...)
		p = p[n:]
		written += n
		c.cond.Broadcast()
	}
	return written, nil
}

// Run is the connection's goroutine. It sends the data from Write until the connection
// closes, and then closes the WebSocket: net/http must not wait for a peer when it closes
// a connection.
func (c *Conn) Run() {
	defer c.of.o.Panics.Catch("a tunnel", func(f *report.Fault) {
		c.broke(f)
		c.ws.Drop()
		c.of.forget(c)
	})
	for {
		out := c.next()
		if out == nil {
			break
		}
		err := c.ws.WriteMessage(websocket.Binary, nil, false, *out)
		c.pool.Put(out)
		if err != nil {
			c.broke(err)
		}
	}
	c.in.Wait()
	_, patience := c.of.o.Goodbye()
	c.ws.Close(c.code, c.text, min(patience, closeTimeout), c.of.o.Closing)
	c.of.forget(c)
}

// broke notes that nothing can be written any more.
func (c *Conn) broke(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeErr = err
	if c.pending != nil {
		c.pool.Put(c.pending)
		c.pending = nil
	}
	c.stop(c.code)
}

// next waits for data to send. It returns nil when all is sent and no more follows.
func (c *Conn) next() *[]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.pending == nil && !c.done {
		c.cond.Wait()
	}
	if c.pending == nil {
		return nil
	}
	if c.done { // each piece that is sent shows that the client accepts data
		c.boundWrite()
	}
	out := c.pending
	c.pending = nil
	c.cond.Broadcast()
	return out
}

// Close ends the WebSocket after the written data, with a code that gives the reason:
// 1001 when culvert is shutting down, 1000 without a reason. It doesn't wait; the
// server's Close does.
func (c *Conn) Close() error {
	code, _ := c.of.o.Goodbye()
	if c.of.o.StandardHTTP2 && !c.on.Left() {
		code = websocket.StatusGoingAway // net/http ends the connection, and doesn't say why
	}
	if told, any := CloseCode(c.on.Ended()); any {
		code = told
	}
	c.closeWith(code)
	return nil
}

// CloseCode returns the code that closes a tunnel's WebSocket when its connection ended
// for this reason, if there is a code for it. RFC 6455 §7.4.1.
func CloseCode(ended string) (code websocket.StatusCode, told bool) {
	switch ended {
	case report.EndedIdle, report.EndedAge, report.EndedShutdown, report.EndedSilent:
		return websocket.StatusGoingAway, true
	case report.EndedSlow, report.EndedFlood, report.EndedUnauthenticated:
		return websocket.StatusPolicyViolation, true
	case report.EndedProtocol:
		return websocket.StatusProtocolError, true
	}
	return 0, false
}

// endedBy returns why the connection of a client ends that broke a rule of WebSockets.
func endedBy(broken websocket.RuleError) string {
	if broken.Code == websocket.StatusPolicyViolation {
		return report.EndedFlood
	}
	return report.EndedProtocol
}

// boundWrite sets the deadline for the piece that is being written.
func (c *Conn) boundWrite() {
	_, patience := c.of.o.Goodbye()
	_ = c.ws.SetWriteDeadline(time.Now().Add(patience)) // a closed connection needs none
}

func (c *Conn) closeWith(code websocket.StatusCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop(code)
	c.boundWrite()
}

// stop ends all reading and writing. The caller holds mu.
func (c *Conn) stop(code websocket.StatusCode) {
	if !c.done {
		c.done, c.code = true, code
		c.in.Stop()
	}
	c.cond.Broadcast()
}

// SendsPreface reports that the client's preface still comes although net/http has read
// one. net/http hands a connection over once it has read a preface, but a server sends its
// SETTINGS without waiting (RFC 9113 §3.4), and a client may wait for them to see that the
// WebSocket carries anything. So Read answers net/http with a preface at once, and the
// HTTP/2 server reads the client's.
func (c *Conn) SendsPreface() bool { return !c.of.o.StandardHTTP2 }

// Carries is called by the HTTP/2 connection inside: blocked reports whether data waits there
// for the client to read or to open a window, and leave ends the connection.
func (c *Conn) Carries(blocked func() bool, leave func(why, text string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked, c.leave = blocked, leave
}

// Blocked reports whether data may wait inside, which the WebSocket can't see. net/http
// doesn't tell.
func (c *Conn) Blocked() bool {
	c.mu.Lock()
	blocked := c.blocked
	c.mu.Unlock()
	return c.of.o.StandardHTTP2 || blocked != nil && blocked() // it takes the lock under which HTTP/2 calls Conn
}

// EdgeConn returns what is known of the connection.
func (c *Conn) EdgeConn() *edge.Conn { return c.on }

// NetConn returns the connection under the WebSocket, to inspect it.
func (c *Conn) NetConn() net.Conn { return c.ws.NetConn() }

// LocalAddr returns the address of the listener that accepted the WebSocket.
func (c *Conn) LocalAddr() net.Addr { return c.ws.NetConn().LocalAddr() }

// RemoteAddr returns the address of the WebSocket's client.
func (c *Conn) RemoteAddr() net.Addr { return c.ws.NetConn().RemoteAddr() }

// SetDeadline sets the deadline of reads and writes. A deadline that passes ends the
// connection, as with TLS.
func (c *Conn) SetDeadline(t time.Time) error { return c.ws.SetDeadline(t) }

// SetReadDeadline is SetDeadline for reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

// SetWriteDeadline is SetDeadline for writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }
