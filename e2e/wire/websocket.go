package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// upgrade makes a WebSocket of tcp. Its client offers one subprotocol and wants it.
func upgrade(ctx context.Context, tcp net.Conn, path, subprotocol string, header http.Header) (*websocket.Conn, error) {
	dial := func(context.Context, string, string) (net.Conn, error) { return tcp, nil }
	ws, _, err := websocket.Dial(ctx, "ws://"+tcp.RemoteAddr().String()+path, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: &http.Transport{DialContext: dial}},
		HTTPHeader:   header,
		Subprotocols: []string{subprotocol},
	})
	if err != nil {
		return nil, err
	}
	if got := ws.Subprotocol(); got != subprotocol {
		_ = ws.CloseNow() // the handshake is wrong
		return nil, fmt.Errorf("subprotocol %q, want %q", got, subprotocol)
	}
	ws.SetReadLimit(-1)
	return ws, nil
}

// DialTunnel makes an h2ts tunnel of tcp: a byte pipe for one HTTP/2 connection.
func DialTunnel(ctx context.Context, tcp net.Conn) (net.Conn, error) {
	ws, err := upgrade(ctx, tcp, "/", "h2ts", nil)
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

// useWebSocket makes c speak grpc-websockets. It carries one call.
func (c *Conn) useWebSocket() {
	c.open = func(ctx context.Context, method string, md http.Header, complete []byte) (Call, error) {
		ws, err := upgrade(ctx, c.over, method, "grpc-websockets", nil)
		if err != nil {
			return nil, err
		}
		var head bytes.Buffer
		head.WriteString("content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n")
		for name, values := range md {
			for _, v := range values {
				fmt.Fprintf(&head, "%s: %s\r\n", name, v)
			}
		}
		call := &webSocketCall{ws: ws, tcp: c.TCP}
		if err := ws.Write(context.Background(), websocket.MessageBinary, head.Bytes()); err != nil {
			return nil, err
		}
		if complete == nil {
			return call, nil
		}
		if err := call.Write(complete); err != nil {
			return nil, err
		}
		return call, call.CloseSend()
	}
}

// A webSocketCall's contexts never end, since one that does closes the
// connection; Close ends it.
type webSocketCall struct {
	ws     *websocket.Conn
	tcp    *net.TCPConn
	header http.Header
	status *Status
}

func (c *webSocketCall) Header() http.Header       { return c.header }
func (c *webSocketCall) Status() *Status           { return c.status }
func (c *webSocketCall) Send(message []byte) error { return c.Write(Frame(message)) }

func (c *webSocketCall) Write(b []byte) error {
	return c.ws.Write(context.Background(), websocket.MessageBinary, append([]byte{0}, b...))
}

func (c *webSocketCall) CloseSend() error {
	return c.ws.Write(context.Background(), websocket.MessageBinary, []byte{1})
}

func (c *webSocketCall) Recv() ([]byte, error) {
	if c.status != nil {
		return nil, io.EOF
	}
	if c.header == nil {
		flags, payload, err := c.readFrame()
		if err != nil {
			return nil, err
		}
		if flags != flagTrailers {
			return nil, fmt.Errorf("the first frame has the flags %#x: data before the header", flags)
		}
		if c.header, err = parseBlock(payload); err != nil {
			return nil, err
		}
	}
	flags, payload, err := c.readFrame()
	if err != nil {
		return nil, err
	}
	if flags == 0 {
		return payload, nil
	}
	s, err := lastStatus(flags, payload)
	if err != nil {
		return nil, err
	}
	_, extra, err := c.ws.Read(context.Background())
	if err == nil {
		return nil, fmt.Errorf("a message of %d bytes behind the trailers", len(extra))
	}
	code := websocket.CloseStatus(err)
	if code == -1 {
		return nil, fmt.Errorf("no close frame behind the trailers (%v): %w", s, unexpected(err))
	}
	s.CloseCode = int(code)
	c.status = s
	return nil, io.EOF
}

// readFrame reads one WebSocket message, which must be exactly one frame.
func (c *webSocketCall) readFrame() (byte, []byte, error) {
	kind, b, err := c.ws.Read(context.Background())
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrCut, unexpected(err))
	}
	if kind != websocket.MessageBinary {
		return 0, nil, errors.New("a text message")
	}
	r := bytes.NewReader(b)
	flags, payload, err := ReadFrame(r)
	if err != nil || r.Len() != 0 {
		return 0, nil, fmt.Errorf("a message of %d bytes is not one frame (%d bytes too many, %w)", len(b), r.Len(), unexpected(err))
	}
	return flags, payload, nil
}

// Close closes without a code, which is the cancellation of the protocol.
func (c *webSocketCall) Close() {
	_ = c.tcp.SetDeadline(time.Now().Add(5 * time.Second)) // Close waits for ever behind a message that is half read
	if c.status == nil {
		_ = c.ws.Close(websocket.StatusNoStatusRcvd, "") // the peer may be gone
	}
	_ = c.ws.CloseNow() // closed by then if all went well
}
