package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/binding"
	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/socket"
	"github.com/culvert-grpc/culvert/bridge/websocket"
	"github.com/culvert-grpc/culvert/codec"
)

// messageName is the transport of bare messages. Their routes recognize its requests.
const messageName = binding.Transport

// messageMistake returns why culvert can't serve a request at the path of a route for
// messages, or nil.
func messageMistake(r *http.Request, a *arrival) *report.Fault {
	m := a.route.bare()
	switch {
	case m.Framing == FramingOpAMP && !gate.IsUpgrade(r):
		return opampMistake(r)
	case m.InJSON() && (m.OverHTTP() || !gate.IsUpgrade(r)):
		return plainMistake(r, m)
	case gate.IsUpgrade(r) && (m.Subprotocol == "" || gate.HasToken(r.Header["Sec-Websocket-Protocol"], m.Subprotocol)):
		return nil
	case gate.IsUpgrade(r):
		return likely(http.StatusBadRequest, "this path needs the WebSocket subprotocol "+m.Subprotocol)
	case r.Method != http.MethodGet:
		return likely(http.StatusMethodNotAllowed, "this path takes only WebSockets", "Allow", "GET")
	default:
		return noUpgrade(r, "this path takes only WebSockets")
	}
}

var errQuery = report.New(report.ReasonBadRequest, codec.ErrQuery.Error())

// serveMessage serves one call of bare messages.
func (s *Server) serveMessage(w http.ResponseWriter, r *http.Request, a *arrival) {
	m := a.route.bare()
	switch {
	case m.Framing == FramingOpAMP:
		s.serveOpAMP(w, r, a)
		return
	case m.OverHTTP():
		s.serveLines(w, r, a)
		return
	case !gate.IsUpgrade(r):
		s.serveUnary(w, r, a)
		return
	}
	c, refused := s.newMessageCall(r, a)
	refused = s.handshake(c, refused)
	w.Header().Set("X-Request-Id", c.info.ID)
	ws, err := s.accept(w, r, m.Subprotocol, c.held)
	if err != nil {
		c.arrived()
		return // it was answered
	}
	on := a.on
	if !s.sockets.Start(func() {
		defer s.panics.Catch("a call on a WebSocket", func(*report.Fault) {
			c.arrived()
			ws.Drop()
		})
		growStack(0)
		s.serveMessages(ws, on, m, c, refused)
	}) {
		c.arrived()
		ws.Drop() // Close cuts what is left
	}
}

// newMessageCall makes the call of a request at a path for messages.
func (s *Server) newMessageCall(r *http.Request, a *arrival) (c *call, refused error) {
	r, lost := a.route.bare().WithQuery(r)
	c, refused = s.newHTTPCall(r, a)
	if refused == nil && lost {
		refused = errQuery
	}
	if refused == nil {
		refused = c.readTimeout(r.Header["Grpc-Timeout"], codec.ParseTimeout)
	}
	if refused == nil {
		refused = s.settle(c)
	}
	return c, refused
}

func (s *Server) serveMessages(ws *websocket.Conn, on *edge.Conn, m *messageRoute, c *call, refused error) {
	d := &messageDown{s: s, ws: ws, on: on, call: c, of: m, finished: make(chan struct{})}
	d.frames.WS, d.frames.HalfClose, d.frames.Text = ws, m.HalfClose, m.InJSON()
	if m.InJSON() {
		c.json, c.rules.oneRequest = &m.JSON, true
	}
	s.handle(context.Background(), c, d, ws.NetConn(), refused)
}

// messageDown is the client's end of a call of bare messages on a WebSocket.
type messageDown struct {
	s      *Server
	ws     *websocket.Conn
	on     *edge.Conn // under it
	call   *call
	of     *messageRoute
	body   message.Reader
	frames message.Bare
	guard  socket.Guard

	pieces   [][]byte
	failed   bool          // a message was broken off: nothing can follow it
	finished chan struct{} // closed by Finish

	halfClosed bool // Recv has returned the half-close
}

// Bind implements downstream.
func (d *messageDown) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	d.guard.Watch(ctx, graceOf, func() { _ = d.ws.SetWriteDeadline(d.call.cutTime()) }) // a closed connection needs none
	d.ws.Watch(d.call.policy.keepAlive(func(err error) { cancel(silenceFault(err)) }))  //nolint:contextcheck // pings end with the WebSocket
	c := d.call
	d.body = message.Reader{Ctx: ctx, Body: d.frames.Body(), Limit: c.messages, Held: c.held, Use: &c.use, Gets: &c.progress, Frames: &d.frames}
}

// Prepare reads the first message, if that is metadata. The call needs no other message
// before it begins at the backend: the backend may speak first.
func (d *messageDown) Prepare(ctx context.Context) error {
	if d.of.FirstMessage == "" {
		return nil
	}
	_ = d.ws.SetReadDeadline(time.Now().Add(edge.HandshakeTimeout)) // before the cut's; a closed connection fails the read
	cut := func() { _ = d.ws.SetReadDeadline(socket.LongAgo) }      // a closed connection needs none
	err := d.guard.Read(cut, d.readFirst)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	_ = d.ws.SetReadDeadline(time.Time{}) // likewise
	return err
}

func (d *messageDown) readFirst() error {
	value, err := d.frames.First(d.call.headers.Bytes)
	switch {
	case socket.TimedOut(err):
		return report.New(report.ReasonHandshakeTimeout, "no message with "+d.of.FirstMessage+" arrived within "+edge.HandshakeTimeout.String()+" of the WebSocket's opening").Ending(report.EndedSlow)
	case err != nil:
		return message.SocketFault(err)
	case len(value) > d.call.headers.Bytes:
		return headers.TooLarge("request", len(value), d.call.headers)
	case value == "" || codec.EncodeValue(value) != value:
		return report.New(report.ReasonBadRequest, "the first message isn't text that can be the value of "+d.of.FirstMessage)
	}
	d.call.Metadata[d.of.FirstMessage] = []string{value}
	if size := headers.Size(d.call.Metadata); size > d.call.headers.Bytes {
		return headers.TooLarge("request", size, d.call.headers)
	}
	return nil
}

// lingerTime is how long the backend may go on with a call whose client has closed the
// WebSocket properly: it can't be told anything, but all that it has sent counts.
const lingerTime = 5 * time.Second

// Recv returns io.EOF at the half-close, which the client's close of the WebSocket is,
// too. Called again, it waits for that close, and then lets the backend finish for a
// moment.
func (d *messageDown) Recv() (mem.BufferSlice, error) {
	m, err := d.body.Next()
	if !errors.Is(err, io.EOF) {
		return m, err
	}
	if !d.halfClosed {
		d.halfClosed = true
		return nil, err
	}
	t := time.NewTimer(lingerTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.finished:
	}
	return nil, errGone
}

// AwaitEnd implements endAwaiter. A client that closes the WebSocket properly isn't gone:
// Recv returns its half-close.
func (d *messageDown) AwaitEnd() error {
	err := d.frames.Await()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if f, ok := errors.AsType[*report.Fault](err); ok && socket.TimedOut(f.Cause) {
		return nil
	}
	return err
}

// StopAwaiting implements endAwaiter. Nothing else sets read deadlines meanwhile.
func (d *messageDown) StopAwaiting(stopped <-chan struct{}) {
	_ = d.ws.SetReadDeadline(socket.LongAgo) // a closed connection needs none
	<-stopped
	_ = d.ws.SetReadDeadline(time.Time{}) // likewise
}

// SendHeader implements downstream: there is no place for metadata.
func (*messageDown) SendHeader(metadata.MD, bool) error { return nil }

// Send implements downstream. A client that has closed the WebSocket gets nothing more.
func (d *messageDown) Send(m mem.BufferSlice, more bool) error {
	defer m.Free()
	if d.frames.Left() {
		return nil
	}
	kind := websocket.Binary
	if d.of.InJSON() && !d.of.BinaryOut {
		kind = websocket.Text
	}
	return d.guard.Write(func() error {
		d.pieces = d.pieces[:0]
		if d.frames.OpAMP != nil {
			d.pieces = append(d.pieces, opampHeader)
		}
		for _, b := range m {
			d.pieces = append(d.pieces, b.ReadOnlyData())
		}
		return d.write(kind, more)
	})
}

// write sends pieces as one message.
func (d *messageDown) write(kind websocket.Opcode, more bool) error {
	err := d.ws.WriteMessage(kind, d.call.progress.SentPiece, more, d.pieces...)
	clear(d.pieces) // the sender of the message frees them
	if err != nil && d.frames.Left() {
		return nil
	}
	d.failed = d.failed || err != nil
	return err
}

// Finish implements downstream. The close frame has the status.
func (d *messageDown) Finish(st *status.Status, _ metadata.MD) error {
	defer close(d.finished)
	code, reason := d.closing(st)
	err := d.guard.LastWrite(func(late bool) error {
		if late {
			_ = d.ws.SetWriteDeadline(time.Now().Add(d.call.lastMoment())) // a closed connection fails the write
			return d.writeLast(st)
		}
		if err := d.writeLast(st); err != nil {
			return err
		}
		return socket.AwaitWritable(d.ws.NetConn()) // for what is left to write, which has 5 s
	})
	if err != nil {
		d.ws.Drop()
		return err
	}
	patience := closeTimeout
	if d.s.draining.Load() {
		patience = lastWords // as in goodbye
	}
	d.ws.Close(code, reason, min(patience, d.call.lastMoment()), d.s.closing.Load)
	if !d.ws.Sent() && !d.frames.Left() {
		return socket.ErrEnded // the status, too
	}
	return nil
}

// Abort implements downstream.
func (d *messageDown) Abort() {
	select {
	case <-d.finished:
	default:
		close(d.finished)
	}
	d.guard.Stop()
	d.ws.Drop()
}

// closing returns the code and the text of the close frame. Some reasons of culvert's own
// have codes of RFC 6455: applications know what to do about them.
func (d *messageDown) closing(st *status.Status) (websocket.StatusCode, string) {
	reason := d.call.ending
	code, text := codec.MessageClose(st, string(reason))
	switch {
	case reason == "":
	case d.frames.Code() != 0:
		return d.frames.Code(), text
	case reason == report.ReasonRequestTooLarge:
		return websocket.StatusMessageTooBig, text
	case reason == report.ReasonClientSilent, reason == report.ReasonDraining:
		return websocket.StatusGoingAway, text
	case reason == report.ReasonInternal:
		return websocket.StatusInternalError, text
	}
	return websocket.StatusCode(code), text
}

// writeLast sends the status as the last message, if the route asks for it.
func (d *messageDown) writeLast(st *status.Status) error {
	switch {
	case d.failed:
		return socket.ErrEnded
	case d.frames.OpAMP != nil:
		return d.tellAgent(st)
	case !d.of.LastStatus || d.frames.Left():
		return nil
	}
	d.pieces = append(d.pieces[:0], codec.MessageStatus(st))
	return d.write(websocket.Text, true) // it leaves with the close frame
}
