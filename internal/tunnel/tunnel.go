// Package tunnel reads the bytes inside a WebSocket with the subprotocol h2ts, at either end.
// How each end writes, and how it closes, is its own: bridge/internal/tunnel,
// client/internal/tunnel.
package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// Name is the WebSocket subprotocol whose binary messages, joined, are one HTTP/2
// connection.
const Name = "h2ts"

// ErrText reports a text message, which has no place among the bytes. The WebSocket is then
// closed with websocket.StatusUnsupportedData.
var ErrText = errors.New("a text message inside a tunnel")

// A Reader joins the binary messages of a WebSocket. One goroutine at a time reads. The
// others of its methods may be called at any time.
type Reader struct {
	ws   *websocket.Conn
	open bool // a message is being read; Read's own

	mu      sync.Mutex
	cond    sync.Cond
	reading bool // Read is running
	stopped bool // nothing is read any more
}

// NewReader returns the Reader of a WebSocket from which nothing was read yet.
func NewReader(ws *websocket.Conn) *Reader {
	r := &Reader{ws: ws}
	r.cond.L = &r.mu
	return r
}

// Read reads from the messages. Besides ErrText, its errors are those of the WebSocket. After
// Stop it returns net.ErrClosed, since later messages belong to the close handshake.
func (r *Reader) Read(p []byte) (n int, err error) {
	if !r.begin() {
		return 0, net.ErrClosed
	}
	defer func() {
		if r.end() && socket.TimedOut(err) {
			err = net.ErrClosed
		}
	}()
	return r.read(p)
}

// begin returns false once reading is stopped.
func (r *Reader) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading = !r.stopped
	return r.reading
}

// end reports whether reading was stopped.
func (r *Reader) end() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading = false
	r.cond.Broadcast()
	return r.stopped
}

func (r *Reader) read(p []byte) (int, error) {
	for {
		if !r.open {
			op, err := r.ws.NextMessage()
			if err != nil {
				return 0, err
			}
			if op != websocket.Binary {
				return 0, ErrText
			}
			r.open = true
		}
		n, err := r.ws.Read(p)
		if errors.Is(err, io.EOF) {
			r.open, err = false, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

// Stop ends the running Read, and all reading. It doesn't wait.
func (r *Reader) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reading && !r.stopped {
		_ = r.ws.SetReadDeadline(socket.LongAgo) // a closed connection needs none
	}
	r.stopped = true
}

// Wait waits until the running Read has returned.
func (r *Reader) Wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.reading {
		r.cond.Wait()
	}
}

// SetReadDeadline sets the deadline of Read, and does nothing after Stop: the close handshake
// has its own.
func (r *Reader) SetReadDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil
	}
	return r.ws.SetReadDeadline(t)
}
