package bridge

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// A socket is a WebSocket and the connection under it. Deadlines are set on
// the connection itself: a context that ends would close it, and then the
// client couldn't be told anything any more.
type socket struct {
	*websocket.Conn
	net    *socketConn
	closed func() // tells the server that the connection is gone

	reading atomic.Bool // a reader waits, so pongs would be seen
	writing atomic.Bool // a message is being written: pings wait behind it

	pings    sync.WaitGroup
	mu       sync.Mutex
	pingAt   *time.Timer
	pingsOff bool
}

// accept upgrades a request whose Origin is already judged. It answers what
// it refuses; the connection closes then, so that nothing behind the refused
// upgrade is served.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, subprotocol string) (*socket, error) {
	hw := &hijackWriter{ResponseWriter: w}
	w.Header().Set("Connection", "close") // for a refusal; an upgrade replaces it
	c, err := websocket.Accept(hw, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // the gate has judged the Origin
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws := &socket{Conn: c, net: hw.conn, closed: func() {}}
	if _, counted := r.Context().Value(connKey{}).(net.Conn); counted {
		ws.closed = sync.OnceFunc(func() { s.connEnded(hw.conn) })
	}
	return ws, nil
}

// hijackWriter remembers the connection that Accept takes over.
type hijackWriter struct {
	http.ResponseWriter
	conn *socketConn
}

// WriteHeader keeps a refused handshake from being followed by anything.
func (h *hijackWriter) WriteHeader(code int) {
	if code != http.StatusSwitchingProtocols {
		h.Header().Set("Connection", "close")
	}
	h.ResponseWriter.WriteHeader(code)
}

func (h *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hj, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this HTTP server can't upgrade connections")
	}
	conn, rw, err := hj.Hijack()
	h.conn = &socketConn{Conn: conn}
	return h.conn, rw, err
}

// socketConn remembers that reading failed: coder/websocket takes a
// connection that ends inside a message for the message's end.
type socketConn struct {
	net.Conn
	failed atomic.Bool
}

func (c *socketConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.failed.Store(true)
	}
	return n, err
}

// NetConn is the connection under it.
func (c *socketConn) NetConn() net.Conn { return c.Conn }

// broken holds once the connection can't be read any more.
func (s *socket) broken() bool { return s.net.failed.Load() }

// keepAlive pings the client until stopPings. It calls gone, once, when a
// ping can't be written or is not answered in time while somebody reads.
// Between pings it costs a timer and no goroutine.
func (s *socket) keepAlive(interval, timeout time.Duration, gone func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pingsOff {
		return
	}
	s.pings.Add(1)
	s.pingAt = time.AfterFunc(interval, func() {
		defer s.pings.Done()
		if err := s.ping(timeout); err != nil {
			gone(err)
			return
		}
		s.keepAlive(interval, timeout, gone)
	})
}

// ping returns an error when the client is gone. While culvert itself holds
// the reader back, or the client reads nothing, a missing pong says nothing:
// the registry's look watches those.
func (s *socket) ping(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	listening := func() bool { return s.reading.Load() && !s.writing.Load() }
	before := listening()
	err := s.Ping(ctx)
	if err == nil || ctx.Err() != nil && (!before || !listening()) {
		return nil
	}
	return err
}

func (s *socket) stopPings() {
	s.mu.Lock()
	s.pingsOff = true
	if s.pingAt != nil && s.pingAt.Stop() {
		s.pings.Done()
	}
	s.mu.Unlock()
}

// shut closes the WebSocket with a handshake that no peer can make last.
func (s *socket) shut(code websocket.StatusCode, reason string) error {
	s.stopPings()
	_ = s.net.SetDeadline(time.Now().Add(closeTimeout)) // Close waits for a message that was left half read
	err := s.Close(code, reason)
	s.pings.Wait()
	s.closed()
	return err
}

// drop closes the connection at once.
func (s *socket) drop() {
	s.stopPings()
	_ = s.net.SetDeadline(longAgo) // CloseNow waits behind a pending read or write
	_ = s.CloseNow()               // it is gone either way
	s.pings.Wait()
	s.closed()
}

// goodbye is the code with which a finished WebSocket is closed.
func (s *Server) goodbye() websocket.StatusCode {
	if s.draining.Load() {
		return websocket.StatusGoingAway
	}
	return websocket.StatusNormalClosure
}
