// Package tunnel is the client's end of HTTP/2 inside a WebSocket, the subprotocol h2ts: a
// WebSocket as a net.Conn.
//
// Open starts no goroutine. The owner of a Conn runs its Run, which ends at most 2 s after
// Close, and waits for it. A timer pings.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/internal/buffer"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

const (
	closeTimeout = 2 * time.Second  // for the close handshake
	pingInterval = 20 * time.Second // between pings
	pingTimeout  = 10 * time.Second // for an answer
	patience     = 30 * time.Second // for data that is on its way before a ping
)

// maxMessage bounds a message, in bytes: pongs leave between messages.
const maxMessage = 128 << 10

var pool = buffer.NewPool(256, 256<<10)

// A Conn is a WebSocket as a net.Conn. Each Write leaves at once, as a message.
type Conn struct {
	net.Conn // below the WebSocket
	in       *tunnel.Reader
	ws       *websocket.Conn

	closing chan struct{} // closed by Close

	mu   sync.Mutex
	code websocket.StatusCode // of the close frame; 0: it isn't closed
	gone error                // why the other end was given up; nil: it wasn't
}

// Open makes a tunnel of a connection to the server of the URL, with more header fields in the
// handshake. If that fails, it closes the connection, and the error is a
// *websocket.HandshakeError. The owner must run Run.
func Open(ctx context.Context, raw net.Conn, u *url.URL, h http.Header) (*Conn, error) {
	r := (&http.Request{Method: http.MethodGet, URL: u, Header: h}).WithContext(ctx)
	ws, err := websocket.Open(raw, r, websocket.Options{Subprotocol: tunnel.Name, Pool: pool})
	if err != nil {
		_ = raw.Close() // the error before is the important one
		return nil, err //nolint:wrapcheck // a HandshakeError
	}
	c := &Conn{Conn: raw, in: tunnel.NewReader(ws), ws: ws, closing: make(chan struct{})}
	ws.Watch(websocket.KeepAlive{Interval: pingInterval, Timeout: pingTimeout, SlowConsumer: patience, Gone: c.giveUp})
	return c, nil
}

// Run is the connection's goroutine: it waits for Close, and closes the WebSocket.
func (c *Conn) Run() {
	<-c.closing
	c.in.Wait()
	c.ws.Close(c.code, "", closeTimeout, func() bool { return true })
}

// Read reads from the binary messages, joined. A close by the other end is an io.EOF, with the
// reason if it has one.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, tunnel.ErrText):
		c.closeWith(websocket.StatusUnsupportedData)
	case websocket.CloseStatus(err) != -1:
		err = closedBy(err)
	default:
		err = c.cause(err)
	}
	return n, err
}

// closedBy returns the end of the bytes for a close frame.
func closedBy(err error) error {
	told, _ := errors.AsType[websocket.CloseError](err)
	if told.Reason == "" && (told.Code == websocket.StatusNormalClosure || told.Code == websocket.StatusNoStatusRcvd) {
		return io.EOF
	}
	return fmt.Errorf("the other end has closed the WebSocket with %d %q: %w", told.Code, told.Reason, io.EOF)
}

// Write sends the bytes as a message, or several.
func (c *Conn) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		if c.closed() {
			return written, net.ErrClosed
		}
		n := min(len(p), maxMessage)
		if err := c.ws.WriteMessage(websocket.Binary, nil, false, p[:n]); err != nil {
			return written, c.cause(err)
		}
		p, written = p[n:], written+n
	}
	return written, nil
}

func (c *Conn) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code != 0
}

// giveUp cuts the connection: nobody answers there.
func (c *Conn) giveUp(why error) {
	c.mu.Lock()
	c.gone = fmt.Errorf("the WebSocket's other end is silent: %w", why)
	c.mu.Unlock()
	socket.Cut(c.Conn)
}

// cause returns why the other end was given up, or err.
func (c *Conn) cause(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return c.gone
	}
	return err
}

// Close has Run close the WebSocket, and doesn't wait for that. Reads and writes end.
func (c *Conn) Close() error {
	c.closeWith(websocket.StatusNormalClosure)
	return nil
}

func (c *Conn) closeWith(code websocket.StatusCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code != 0 {
		return
	}
	c.code = code
	c.in.Stop()
	_ = c.ws.SetWriteDeadline(time.Now().Add(closeTimeout)) // a closed connection needs none
	close(c.closing)
}

// NetConn returns the connection under the WebSocket, to inspect it.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// SetDeadline sets the deadlines of reads and writes.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of Read. One that passes loses nothing.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write. If it passes within a write, all later ones
// fail, as with TLS: half a frame can't be taken back.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code != 0 {
		return nil // the close handshake has its own
	}
	return c.ws.SetWriteDeadline(t)
}
