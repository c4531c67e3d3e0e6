package bridge

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// accept upgrades a request whose Origin is already judged, with the subprotocol if the client
// offers it, and counts the connection
// until it closes. Frames that wait for the client count with held. It answers requests
// that it refuses.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, subprotocol string, held *memory.Entry) (*websocket.Conn, error) {
	on := s.edge.Of(r)
	return websocket.Accept(w, r, websocket.Options{
		Subprotocol: rules.FindToken(r.Header["Sec-Websocket-Protocol"], subprotocol), Pool: s.account.Pool, Out: held.Buffers(), Panicked: s.timerPanicked,
		Refused: func() { markRefusal(w.Header(), report.ReasonBadRequest); on.CloseBehindRefusal(w, r) }, Closed: on.Taken(),
	})
}

// handshake counts the WebSocket of a call, which a refused call opens, too. It returns
// why the call is refused.
func (c *call) handshake(refused error) error {
	err := c.use.Handshake(c.Method)
	if refused == nil {
		return err
	}
	if f, ok := errors.AsType[*report.Fault](err); ok {
		c.s.refusals.Note(f, c.peer.Addr) // the client is told of the other
	}
	return refused
}

// keepAlive returns how culvert watches a WebSocket's client.
func (p *policy) keepAlive(gone func(error)) websocket.KeepAlive {
	return websocket.KeepAlive{Interval: pingInterval, Timeout: pingTimeout, SlowConsumer: p.limits.SlowConsumerTimeout, Gone: gone}
}

// goodbye returns the code that closes a finished WebSocket, and how long its client
// has to answer. In a drain the wait is short: else the WebSockets of clients that don't
// answer would all be left at the end, and to close thousands takes seconds.
func (s *Server) goodbye() (websocket.StatusCode, time.Duration) {
	switch {
	case s.draining.Load():
		return websocket.StatusGoingAway, lastWords
	case s.refusing.Load():
		return websocket.StatusGoingAway, closeTimeout
	default:
		return websocket.StatusNormalClosure, closeTimeout
	}
}

// A socketStream is the client's end of a call that has a WebSocket for itself. It reads
// and writes WebSocket messages, and closes the WebSocket. The framing gives messages and
// the end the form of the client's protocol.
type socketStream struct {
	w           http.ResponseWriter // of the upgrade; nil behind it
	r           *http.Request       // the upgrade; nil behind it
	subprotocol string
	ws          *websocket.Conn
	call        *call
	framing     framing
	body        message.Reader
	guard       socket.Guard

	pieces     [][]byte
	failed     bool // a message was broken off: nothing can follow it
	halfClosed bool // Recv has returned the half-close
}

// A framing is what one protocol on WebSockets has of its own. It embeds its socketStream.
type framing interface {
	// first is Prepare of downstream. It reads a first message with readFirst, if the
	// protocol has one, and prepares the reading of the others with read.
	first(ctx context.Context) error

	// await waits until a message begins. The error is that of the message's read.
	await() error

	// left reports that the client has closed the WebSocket, and that this doesn't end the
	// call. The client then gets nothing more. Any goroutine may call left.
	left() bool

	// header is SendHeader of downstream.
	header(md metadata.MD, more bool) error

	// message writes a message, which the caller frees. last writes what comes before the
	// close frame. Both run inside a write of the guard.
	message(m mem.BufferSlice, more bool) error
	last(st *status.Status, trailer metadata.MD) error

	// closing returns the code and the text of the close frame. The code 0 stands for that
	// of goodbye.
	closing(st *status.Status) (websocket.StatusCode, string)
}

// open fills in the stream of a call. Its WebSocket comes later.
func (d *socketStream) open(w http.ResponseWriter, r *http.Request, c *call, f framing) {
	*d = socketStream{w: w, r: r, call: c, framing: f}
}

// upgrade implements upgrader.
func (d *socketStream) upgrade() (net.Conn, error) {
	ws, err := d.call.s.accept(d.w, d.r, d.subprotocol, d.call.held)
	d.w, d.r = nil, nil // the call outlives the HTTP handler, which gives its memory back
	if err != nil {
		return nil, err
	}
	d.ws = ws
	return ws.NetConn(), nil
}

// served implements upgrader.
func (d *socketStream) served(started bool) {
	if !started {
		d.Abort() // Close cuts what is left
	}
}

// Bind implements downstream.
func (d *socketStream) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	d.guard.Watch(ctx, graceOf, func() { _ = d.ws.SetWriteDeadline(d.call.cutTime()) }) // a closed connection needs none
	d.ws.Watch(d.call.policy.keepAlive(func(err error) { cancel(silenceFault(err)) }))  //nolint:contextcheck // pings end with the WebSocket
}

// Prepare implements downstream.
func (d *socketStream) Prepare(ctx context.Context) error { return d.framing.first(ctx) }

// readFirst reads a first message, which has the time of a handshake and the limit of
// metadata. what names its content. wrongKind returns the fault of a message of the other
// kind.
func (d *socketStream) readFirst(ctx context.Context, what string, kind websocket.Opcode, wrongKind func() error) (first []byte, err error) {
	_ = d.ws.SetReadDeadline(time.Now().Add(edge.HandshakeTimeout)) // before the cut's; a closed connection fails the read
	cut := func() { _ = d.ws.SetReadDeadline(socket.LongAgo) }      // a closed connection needs none
	limit := d.call.headers
	err = d.guard.Read(cut, func() error {
		op, err := d.ws.NextMessage()
		if err == nil && op != kind {
			err = wrongKind()
		}
		if err == nil {
			first, err = d.readAll(limit.Bytes + 1)
		}
		return err
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	_ = d.ws.SetReadDeadline(time.Time{}) // a closed connection needs none
	switch {
	case socket.TimedOut(err):
		return nil, report.New(report.ReasonHandshakeTimeout, "no "+what+" arrived within "+edge.HandshakeTimeout.String()+" of the WebSocket's opening").Ending(report.EndedSlow)
	case err != nil:
		return nil, message.SocketFault(err)
	case len(first) > limit.Bytes:
		return nil, headers.TooLarge("request", len(first), limit)
	}
	return first, nil
}

// readAll reads a message, at most so many bytes of it.
func (d *socketStream) readAll(most int) ([]byte, error) {
	const small = 512 // with which io.ReadAll begins
	if n, known := d.ws.Length(); known && n > 0 && n <= int64(min(most, small)) {
		all := make([]byte, n)
		_, err := io.ReadFull(d.ws, all)
		return all, err
	}
	return io.ReadAll(io.LimitReader(d.ws, int64(most)))
}

// read prepares the reading of the method's messages.
func (d *socketStream) read(ctx context.Context, body io.Reader, frames message.Framing) {
	c := d.call
	d.body = message.Reader{Ctx: ctx, Body: body, Limit: &c.messages, Held: c.held, Use: &c.use, Gets: &c.progress, Frames: frames}
}

// lingerTime is how long the backend may go on with a call whose client has closed the
// WebSocket properly: it can't be told anything, but all that it has sent counts.
const lingerTime = 5 * time.Second

// Recv implements downstream. Called again after the half-close, it continues to read, to
// notice the client's close and its pongs. If that close doesn't end the call, Recv lets
// the backend finish for a moment.
func (d *socketStream) Recv() (mem.BufferSlice, error) {
	m, err := d.body.Next()
	if !errors.Is(err, io.EOF) {
		return m, err
	}
	if !d.halfClosed {
		d.halfClosed = true
		return nil, err
	}
	select {
	case <-time.After(lingerTime):
	case <-d.body.Ctx.Done(): // also after Finish
	}
	return nil, errGone
}

// AwaitEnd implements endAwaiter.
func (d *socketStream) AwaitEnd() error {
	err := d.framing.await()
	if f, ok := errors.AsType[*report.Fault](err); ok && socket.TimedOut(f.Cause) || errors.Is(err, io.EOF) {
		return nil // StopAwaiting, or a half-close for Recv to return
	}
	return err
}

// StopAwaiting implements endAwaiter. Nothing else sets read deadlines meanwhile.
func (d *socketStream) StopAwaiting(stopped <-chan struct{}) {
	_ = d.ws.SetReadDeadline(socket.LongAgo) // a closed connection needs none
	<-stopped
	_ = d.ws.SetReadDeadline(time.Time{}) // a closed connection needs none
}

// SendHeader implements downstream.
func (d *socketStream) SendHeader(md metadata.MD, more bool) error {
	return d.framing.header(md, more)
}

// Send implements downstream.
func (d *socketStream) Send(m mem.BufferSlice, more bool) error {
	defer m.Free()
	if d.framing.left() {
		return nil
	}
	return d.guard.Write(func() error { return d.framing.message(m, more) })
}

// Flush implements downstream.
func (d *socketStream) Flush() error { return d.guard.Write(d.ws.Flush) }

// write sends a prefix, which may be empty, and a message as one WebSocket message. The
// caller frees the message.
func (d *socketStream) write(kind websocket.Opcode, prefix []byte, m mem.BufferSlice, more bool) error {
	d.pieces = d.pieces[:0]
	if len(prefix) > 0 {
		d.pieces = append(d.pieces, prefix)
	}
	for _, b := range m {
		d.pieces = append(d.pieces, b.ReadOnlyData())
	}
	err := d.ws.WriteMessage(kind, d.call.progress.SentPiece, more, d.pieces...)
	clear(d.pieces) // the caller frees them
	if err != nil && d.framing.left() {
		return nil
	}
	d.failed = d.failed || err != nil
	return err
}

// Finish implements downstream. While the call's context lives, it waits for a slow reader
// like any Send. After the context has ended, the client has a moment to accept the rest.
func (d *socketStream) Finish(st *status.Status, trailer metadata.MD) error {
	code, text := d.framing.closing(st)
	err := d.guard.LastWrite(func(late bool) error {
		if late {
			_ = d.ws.SetWriteDeadline(time.Now().Add(d.call.lastMoment())) // a closed connection fails the write
		}
		if err := d.writeLast(st, trailer); err != nil || late {
			return err
		}
		return socket.AwaitWritable(d.ws.NetConn()) // for what is left to write, which has 5 s
	})
	if err != nil {
		d.ws.Drop()
		return err
	}
	goodbye, patience := d.call.s.goodbye()
	d.ws.Close(cmp.Or(code, goodbye), text, min(patience, d.call.lastMoment()), d.call.s.closing.Load)
	if !d.ws.Sent() && !d.framing.left() {
		return socket.ErrEnded // the status, too
	}
	return nil
}

func (d *socketStream) writeLast(st *status.Status, trailer metadata.MD) error {
	switch {
	case d.failed:
		return socket.ErrEnded
	case d.framing.left():
		return nil
	default:
		return d.framing.last(st, trailer)
	}
}

// Abort implements downstream.
func (d *socketStream) Abort() {
	d.guard.Stop()
	d.ws.Drop()
}
