package bridgetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/coder/websocket"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// upgrade upgrades one of d's connections, and returns the header of the answer, too.
func upgrade(ctx context.Context, d *dialer, path string, o *websocket.DialOptions) (*websocket.Conn, http.Header, error) {
	o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: d.dialTLS, DisableKeepAlives: true}}
	conn, resp, err := websocket.Dial(ctx, "ws://"+d.address+path, o)
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, nil, &httpError{resp.StatusCode}
		}
		return nil, nil, fmt.Errorf("dial WebSocket: %w", err)
	}
	conn.SetReadLimit(-1)
	return conn, resp.Header, nil
}

// dialWebSocket upgrades one of d's connections to the first of the protocols.
func dialWebSocket(ctx context.Context, d *dialer, path string, protocols ...string) (*websocket.Conn, error) {
	conn, _, err := upgrade(ctx, d, path, &websocket.DialOptions{Subprotocols: protocols})
	if err != nil {
		return nil, err
	}
	if conn.Subprotocol() != protocols[0] {
		_ = conn.CloseNow() // of no use
		return nil, violation("subprotocol %q, offered %q", conn.Subprotocol(), protocols)
	}
	return conn, nil
}

// sockets are the calls of a client that has one WebSocket a call.
type sockets struct {
	d *dialer

	mu      sync.Mutex
	running []*socket
}

// A socket is the WebSocket of a call.
type socket struct {
	ctx     context.Context // the call's life
	conn    *websocket.Conn
	closing sync.WaitGroup
}

func (c *sockets) add(s *socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = append(c.running, s)
}

func (c *sockets) cut(how cut) { c.d.cut(how) }

func (c *sockets) close() {
	c.mu.Lock()
	running := c.running
	c.running = nil
	c.mu.Unlock()
	for _, s := range running {
		_ = s.conn.CloseNow() // closed before, if all went well
		s.closing.Wait()
	}
	c.d.cut(cutFIN)
}

// cancel closes as a browser does: without a code, and without waiting.
func (s *socket) cancel() {
	s.closing.Go(func() {
		_ = s.conn.Close(websocket.StatusNoStatusRcvd, "") // the peer may be gone
	})
}

// websocketClient speaks grpc-websockets.
type websocketClient struct{ sockets }

func (c *websocketClient) open(ctx context.Context, rq call) (stream, error) {
	s, err := c.upgrade(ctx, rq)
	if err != nil {
		return nil, err
	}
	block := appendBlock(nil, headerLines(rq, dialectWeb))
	return s, s.conn.Write(ctx, websocket.MessageBinary, block)
}

// upgrade opens the WebSocket of a call and sends nothing yet.
func (c *websocketClient) upgrade(ctx context.Context, rq call) (*websocketStream, error) {
	conn, err := dialWebSocket(ctx, c.d, rq.method, "grpc-websockets")
	if err != nil {
		return nil, err
	}
	s := &websocketStream{socket: socket{ctx: ctx, conn: conn}, call: rq}
	c.add(&s.socket)
	return s, nil
}

type websocketStream struct {
	socket
	call call

	head, tail metadata.MD
	st         *status.Status
	code       websocket.StatusCode // how the server closed
	err        error
}

func (s *websocketStream) status() *status.Status { return s.st }
func (s *websocketStream) trailer() metadata.MD   { return s.tail }
func (s *websocketStream) compressed() int        { return 0 }

func (s *websocketStream) send(b []byte) error {
	return s.sendRaw(dialectWeb.message(s.call.encoding, b))
}

func (s *websocketStream) sendRaw(b []byte) error {
	return s.sendWire(append([]byte{0}, b...))
}

// sendWire sends one binary message unchanged.
func (s *websocketStream) sendWire(b []byte) error {
	return s.conn.Write(s.ctx, websocket.MessageBinary, b)
}

func (s *websocketStream) closeSend() error { return s.sendWire([]byte{1}) }

func (s *websocketStream) header() (metadata.MD, error) {
	if s.head == nil && s.err == nil {
		s.err = s.readHeader()
	}
	if s.head == nil {
		return nil, s.err
	}
	return s.head, nil
}

func (s *websocketStream) readHeader() error {
	flags, payload, err := s.readMessage()
	if err != nil {
		return err
	}
	if flags != flagTrailers {
		return violation("first frame has flags %#02x", flags)
	}
	head, err := parseBlock(payload)
	if err != nil {
		return err
	}
	if _, ok := head["grpc-status"]; ok {
		return violation("grpc-status in the header frame")
	}
	s.head = head
	return nil
}

// readMessage reads one WebSocket message, which must be one frame.
func (s *websocketStream) readMessage() (flags byte, payload []byte, err error) {
	kind, b, err := s.conn.Read(s.ctx)
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("read WebSocket: %w", err)
	case kind != websocket.MessageBinary:
		return 0, nil, violation("text message %.40q", b)
	case len(b) < 5 || int(binary.BigEndian.Uint32(b[1:5])) != len(b)-5:
		return 0, nil, violation("a message of %d bytes isn't one frame: %.20x", len(b), b)
	}
	return b[0], b[5:], nil
}

func (s *websocketStream) recv() ([]byte, error) {
	if _, err := s.header(); err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	flags, payload, err := s.readMessage()
	switch {
	case err != nil:
		s.err = err
	case flags == 0:
		return payload, nil
	case flags == flagTrailers:
		s.err = s.end(payload)
	default:
		s.err = violation("frame with flags %#02x", flags)
	}
	return nil, s.err
}

// end checks the trailers frame and the close after it.
func (s *websocketStream) end(payload []byte) (err error) {
	if s.tail, err = parseBlock(payload); err != nil {
		return err
	}
	st, err := browserStatus(s.tail)
	if err != nil {
		return err
	}
	_, b, err := s.conn.Read(s.ctx)
	var ce websocket.CloseError
	switch {
	case err == nil:
		return violation("a message of %d bytes after the trailers", len(b))
	case !errors.As(err, &ce):
		return violation("no close frame after the trailers: %w", err)
	case ce.Reason != "" || ce.Code != websocket.StatusNormalClosure && ce.Code != websocket.StatusGoingAway:
		return violation("closed with %v after the trailers", ce)
	}
	s.st, s.code = st, ce.Code
	return io.EOF
}

// dialTunnel opens a byte pipe through a WebSocket: the h2ts subprotocol.
func dialTunnel(ctx context.Context, d *dialer) (net.Conn, error) {
	conn, err := dialWebSocket(ctx, d, "/", "h2ts")
	if err != nil {
		return nil, err
	}
	// The connection outlives the dialing; its owner closes it.
	return websocket.NetConn(context.Background(), conn, websocket.MessageBinary), nil
}
