package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client/internal/tunnel"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/terminal"
	bytepipe "github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// cookiesOf returns the cookies alone: a server takes them of an upgrade only.
func cookiesOf(md metadata.MD) metadata.MD {
	return metadata.MD{"cookie": md["cookie"]}
}

// tellUpgrade tells of the request.
func (c *caller) tellUpgrade(path, subprotocol string, h http.Header) {
	what := "a WebSocket"
	if subprotocol != "" {
		what += " with the subprotocol " + websocket.WithoutBearer(subprotocol)
	}
	c.trace.say(sent, "GET %s HTTP/1.1, host %s: %s", c.target.URL(path).EscapedPath(), c.target.Authority(), what)
	c.trace.fields(sent, h)
}

// tunnel opens HTTP/2 inside a WebSocket. The metadata is each call's own. The caller waits once
// it has closed the connection.
func (c *caller) tunnel(ctx context.Context) (conn net.Conn, wait func(), err error) {
	if err := c.page.mixed(); err != nil {
		return nil, nil, err
	}
	raw, err := c.dial(ctx, "http/1.1")
	if err != nil {
		return nil, nil, err
	}
	h := c.header(cookiesOf(c.metadata))
	c.page.mark(h)
	c.tellUpgrade("/", "h2ts", h)
	inner, err := tunnel.Open(ctx, raw, c.target.URL("/"), h)
	if err != nil {
		c.tellRefusal(err)
		return nil, nil, because(ctx, err)
	}
	c.trace.say(received, "HTTP/1.1 101: a tunnel for HTTP/2")
	c.page.opened(c)
	var running sync.WaitGroup
	running.Go(inner.Run)
	return inner, running.Wait, nil
}

// tellRefusal tells of an answer that made no WebSocket.
func (c *caller) tellRefusal(err error) {
	if e, ok := errors.AsType[*websocket.HandshakeError](err); ok && e.Status != "" {
		c.trace.say(received, "HTTP/1.1 %s", e.Status)
		c.trace.fields(received, e.Header)
	}
}

// A socket is a WebSocket whose call ends with a context.
type socket struct {
	outcome
	c      *caller
	ctx    context.Context // the call's
	cancel context.CancelFunc
	ws     *websocket.Conn
	stop   func() bool
}

// open makes the handshake.
func (s *socket) open(ctx context.Context, c *caller, q *request, subprotocol string, md metadata.MD) error {
	s.c = c
	s.ctx, s.cancel = context.WithCancel(ctx)
	if err := s.handshake(q, subprotocol, md); err != nil {
		s.cancel()
		return because(ctx, err)
	}
	s.stop = context.AfterFunc(s.ctx, s.ws.Drop) //nolint:contextcheck // the socket has the context
	return nil
}

func (s *socket) handshake(q *request, subprotocol string, md metadata.MD) error {
	if err := q.page.mixed(); err != nil {
		return err
	}
	conn, err := s.c.dial(s.ctx, "http/1.1")
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.c.target.URL(q.path).String(), http.NoBody)
	if err == nil {
		r.Header = s.c.header(md)
		q.page.mark(r.Header)
		s.c.tellUpgrade(q.path, subprotocol, r.Header)
		s.ws, err = websocket.Open(conn, r, websocket.Options{Subprotocol: subprotocol, Pool: mem.DefaultBufferPool()})
	}
	if err != nil {
		_ = conn.Close() // there is no WebSocket
		s.c.tellRefusal(err)
		return err
	}
	s.c.trace.say(received, "HTTP/1.1 101: a WebSocket")
	q.page.opened(s.c)
	s.c.watch.heard()
	return nil
}

// write sends a message of WebSocket.
func (s *socket) write(kind websocket.Opcode, pieces ...[]byte) error {
	if s.ws.WriteMessage(kind, nil, false, pieces...) != nil {
		return io.EOF // recv says how it ended
	}
	return nil
}

// readError says what an error of reading means.
func (s *socket) readError(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, bytepipe.ErrText) {
		return errors.New("the answer is malformed: a text message")
	}
	if e, ok := errors.AsType[websocket.CloseError](err); ok {
		s.c.trace.say(received, "close frame: %d %s", e.Code, e.Reason)
		return &closedError{int(e.Code), terminal.Text(e.Reason)}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutOff
	}
	return fmt.Errorf("the WebSocket broke: %w", err)
}

// A closedError reports that the server closed the WebSocket.
type closedError struct {
	code   int
	reason string
}

func (e *closedError) Error() string {
	text := fmt.Sprintf("the server closed the WebSocket with code %d before the call's status", e.code)
	if e.reason != "" {
		text += ": " + e.reason
	}
	return text
}

func (s *socket) close() {
	if s.stop() && s.status != nil {
		s.ws.Close(websocket.StatusNormalClosure, "", time.Second, func() bool { return true })
	}
	s.cancel()
	s.ws.Drop()
}

// webSocket is the way of grpc-websockets, the protocol of @improbable-eng/grpc-web: gRPC-Web's
// frames in a WebSocket for each call. docs/reference/websockets.md.
type webSocket struct{ c *caller }

func (webSocket) close() {}

// open implements way. As a page can't set headers of an upgrade, the metadata is in the first
// message.
func (w *webSocket) open(ctx context.Context, q *request) (stream, error) {
	s := new(webSocketStream)
	if err := s.socket.open(ctx, w.c, q, "grpc-websockets", cookiesOf(q.metadata)); err != nil {
		return nil, err
	}
	md := timed(ctx, q.metadata)
	delete(md, "cookie") // as a browser, which has sent them
	fields := map[string][]string{"content-type": {"application/grpc-web+proto"}, "x-grpc-web": {"1"}, "x-user-agent": {w.c.agent()}}
	for name, value := range codec.Fields(md) {
		fields[name] = append(fields[name], value)
	}
	block := codec.AppendHeaderBlock(nil, func(yield func(string, string) bool) {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			for _, value := range fields[name] {
				if !yield(name, value) {
					return
				}
			}
		}
	})
	w.c.trace.say(sent, "the header, %s", bytesOf(len(block)))
	w.c.trace.fields(sent, fields)
	s.answer = told{bytepipe.NewReader(s.ws), s.readError}
	_ = s.write(websocket.Binary, block) // recv says how it ended
	return s, nil
}

// A webSocketStream is a call by grpc-websockets.
type webSocketStream struct {
	socket
	// answer joins the server's messages: the reference server writes a frame's header and its
	// payload as two.
	answer told
}

func (s *webSocketStream) send(m []byte) error {
	s.c.trace.say(sent, "a message of %s, in a frame of %s behind the byte 00", bytesOf(len(m)), bytesOf(len(m)+codec.FrameHeaderBytes))
	return s.write(websocket.Binary, []byte{byte(codec.MarkerData)}, inFrame(m))
}

func (s *webSocketStream) closeSend() error {
	s.c.trace.say(sent, "the byte 01: half-close")
	return s.write(websocket.Binary, []byte{byte(codec.MarkerHalfClose)})
}

// header implements stream. Without a header, the first frame is the end.
func (s *webSocketStream) header() (metadata.MD, error) {
	h, payload, err := codec.ReadFrame(s.answer, codec.ParseFrameHeader, maxHeaderBytes)
	if err != nil {
		return nil, err
	}
	if h.Flags&codec.FlagTrailers == 0 {
		return nil, errors.New("the answer is malformed: a message before the header")
	}
	fields, err := codec.ParseHeaderBlock(payload)
	if err != nil {
		return nil, fmt.Errorf("the answer's header: %w", err)
	}
	if _, ok := fields["grpc-status"]; ok {
		s.status, s.trailer, err = parseTrailers(s.c.trace, payload)
		return nil, err
	}
	s.c.trace.say(received, "the header, %s", bytesOf(len(payload)))
	s.c.trace.fields(received, fields)
	return metadataOf(fields)
}

func (s *webSocketStream) recv() ([]byte, error) {
	return grpcWebFraming.next(s.c.trace, s.answer, &s.outcome)
}

// messageSocket is the way of bare messages in JSON: each message of the WebSocket is one of the
// method, and the close frame has the status. docs/reference/messages.md.
type messageSocket struct{ c *caller }

func (messageSocket) close() {}

func (w *messageSocket) open(ctx context.Context, q *request) (stream, error) {
	s := new(messageStream)
	if err := s.socket.open(ctx, w.c, q, w.c.cfg.Subprotocol, timed(ctx, q.metadata)); err != nil {
		return nil, err
	}
	if first := w.c.cfg.FirstMessage; first != "" { // it may be a token
		w.c.trace.say(sent, "a text message of %s, which becomes metadata", bytesOf(len(first)))
		_ = s.write(websocket.Text, []byte(first)) // recv says how it ended
	}
	return s, nil
}

// A messageStream is a call by bare messages.
type messageStream struct {
	socket
	told *status.Status // in the last message; it has more than the close frame
}

func (s *messageStream) send(m []byte) error {
	s.c.trace.say(sent, "a text message of %s", bytesOf(len(m)))
	return s.write(websocket.Text, m)
}

// closeSend implements stream. Only the route knows how a client says that it has no more.
func (s *messageStream) closeSend() error {
	if s.c.cfg.HalfClose == "" {
		s.c.trace.say(note, "no half-close: the route may have a text for it (message.half_close): give it with --half-close")
		return nil
	}
	s.c.trace.say(sent, "the text %q: half-close", s.c.cfg.HalfClose)
	return s.write(websocket.Text, []byte(s.c.cfg.HalfClose))
}

// header implements stream: the answer has none.
func (*messageStream) header() (metadata.MD, error) { return nil, nil }

func (s *messageStream) recv() ([]byte, error) {
	if s.status != nil {
		return nil, io.EOF
	}
	for {
		m, err := s.message()
		if e, ok := errors.AsType[*closedError](err); ok {
			st, ok := codec.ParseMessageClose(e.code, e.reason)
			if !ok {
				return nil, err
			}
			if s.told != nil && s.told.Code() == st.Code() {
				st = s.told
			}
			s.status = st
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
		if st, ok := codec.ParseMessageStatus(m); ok {
			s.c.trace.say(received, "a text message of %s: the status", bytesOf(len(m)))
			s.told = st
			continue
		}
		s.c.trace.say(received, "a message of %s", bytesOf(len(m)))
		return m, nil
	}
}

// message returns the next message, text or binary: a route may send JSON in either.
func (s *messageStream) message() ([]byte, error) {
	if _, err := s.ws.NextMessage(); err != nil {
		return nil, s.readError(err)
	}
	m, err := io.ReadAll(io.LimitReader(s.ws, maxMessageBytes+1))
	if err != nil {
		return nil, s.readError(err)
	}
	if len(m) > maxMessageBytes {
		return nil, fmt.Errorf("the server sends a message over the limit of %d MiB", maxMessageBytes>>20)
	}
	return m, nil
}
