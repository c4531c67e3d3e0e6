package bridge

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/socket"
	"github.com/culvert-grpc/culvert/bridge/websocket"
	"github.com/culvert-grpc/culvert/codec"
)

// serveWebSocket serves one call on one WebSocket, in the protocol of improbable-eng's
// grpc-web: the client's first message has the metadata, and each later one a marker
// byte and bytes of a gRPC-Web body. The server answers with gRPC-Web frames, one in
// each message.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request, a *arrival) {
	c, refused := s.newHTTPCall(r, a)
	if refused == nil {
		refused = c.readHeader(r.Header)
	}
	refused = s.handshake(c, refused)
	ws, err := s.accept(w, r, "grpc-websockets", c.held)
	if err != nil {
		c.arrived()
		return // it was answered
	}
	// The call outlives the HTTP handler, which gives its memory back.
	on := a.on
	if !s.sockets.Start(func() {
		defer s.panics.Catch("a call on a WebSocket", func(*report.Fault) {
			c.arrived()
			ws.Drop()
		})
		growStack(0)
		s.serveSocketCall(ws, on, c, refused)
	}) {
		c.arrived()
		ws.Drop() // Close cuts what is left
	}
}

func (s *Server) serveSocketCall(ws *websocket.Conn, on *edge.Conn, c *call, refused error) {
	down := &socketDown{s: s, ws: ws, on: on, call: c, stream: message.SocketBody{WS: ws}, codingRefused: errors.Is(refused, errCoding)}
	s.handle(context.Background(), c, down, ws.NetConn(), refused)
}

// socketDown is the client's end of a call that has a WebSocket for itself.
type socketDown struct {
	s      *Server
	ws     *websocket.Conn
	on     *edge.Conn // under it
	call   *call
	body   message.Reader
	frames message.GRPC
	stream message.SocketBody
	guard  socket.Guard

	codingRefused bool // so the client is told what can be read

	prefix     [codec.FrameHeaderBytes]byte // writeFrame's own, as pieces
	pieces     [][]byte
	headerSent bool
	failed     bool // a message was broken off: nothing can follow it
}

// Bind implements downstream.
func (d *socketDown) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	d.guard.Watch(ctx, graceOf, func() { _ = d.ws.SetWriteDeadline(d.call.cutTime()) }) // a closed connection needs none
	d.ws.Watch(d.call.policy.keepAlive(func(err error) { cancel(silenceFault(err)) }))  //nolint:contextcheck // pings end with the WebSocket
}

// Prepare implements downstream.
func (d *socketDown) Prepare(ctx context.Context) error {
	c := d.call
	err := d.readMetadata(ctx, c)
	d.frames.Coding = c.coding
	d.body = message.Reader{Ctx: ctx, Body: &d.stream, Limit: c.messages, Held: c.held, Use: &c.use, Gets: &c.progress, Frames: &d.frames}
	return err
}

// readMetadata reads the first message. Its metadata adds to that of the upgrade
// request, except names that only the upgrade request can set.
func (d *socketDown) readMetadata(ctx context.Context, c *call) error {
	_ = d.ws.SetReadDeadline(time.Now().Add(edge.HandshakeTimeout)) // before the cut's; a closed connection fails the read
	cut := func() { _ = d.ws.SetReadDeadline(socket.LongAgo) }      // a closed connection needs none
	var block map[string][]string
	err := d.guard.Read(cut, func() (err error) {
		block, err = d.readFirst(c.headers)
		return err
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	md, dropped, err := headers.Block(block, c.policy.routes.askedFor())
	if err != nil {
		return err
	}
	d.s.noteDropped(c, dropped)
	c.policy.vouched.Strike(md, false)
	maps.Copy(c.Metadata, md)
	if size := headers.Size(c.Metadata); size > c.headers.Bytes {
		return headers.TooLarge("request", size, c.headers)
	}
	if ua := block["x-user-agent"]; len(ua) > 0 && c.Metadata["x-user-agent"] == nil && codec.ValidValue(ua[0]) {
		c.Metadata["x-user-agent"] = ua[:1]
	}
	if id := block["x-request-id"]; len(id) > 0 && saneID(id[0]) {
		c.info.ID = id[0]
	}
	if err := c.readCodings(block["grpc-encoding"], nil); err != nil {
		d.codingRefused = true
		return err
	}
	for _, v := range block["content-type"] {
		c.subtype, _ = gate.ContentSubtype(v, web.contentType)
	}
	if err := c.readTimeout(block["grpc-timeout"], codec.ParseTimeout); err != nil {
		return err
	}
	if err := d.s.settle(c); err != nil {
		return err
	}
	c.convertJSON()
	return nil
}

func (d *socketDown) readFirst(limit report.SizeLimit) (map[string][]string, error) {
	op, err := d.ws.NextMessage()
	if err != nil {
		return nil, d.firstError(err)
	}
	if op != websocket.Binary {
		return nil, message.TextFault()
	}
	block, err := io.ReadAll(io.LimitReader(d.ws, int64(limit.Bytes)+1))
	if err != nil {
		return nil, d.firstError(err)
	}
	if len(block) > limit.Bytes {
		return nil, headers.TooLarge("request", len(block), limit)
	}
	_ = d.ws.SetReadDeadline(time.Time{})
	fields, err := codec.ParseHeaderBlock(block)
	if err != nil {
		return nil, report.New(report.ReasonBadRequest, "the metadata message can't be read: "+err.Error())
	}
	return fields, nil
}

func (d *socketDown) firstError(err error) error {
	if socket.TimedOut(err) {
		return report.New(report.ReasonHandshakeTimeout, "no metadata arrived within "+edge.HandshakeTimeout.String()+" of the WebSocket's opening").Ending(report.EndedSlow)
	}
	return message.SocketFault(err)
}

// Recv returns io.EOF at the half-close. Called again, it continues to read, to notice
// the client's close and its pongs.
func (d *socketDown) Recv() (mem.BufferSlice, error) { return d.body.Next() }

// AwaitEnd implements endAwaiter.
func (d *socketDown) AwaitEnd() error {
	err := d.stream.Await()
	if f, ok := errors.AsType[*report.Fault](err); ok && socket.TimedOut(f.Cause) {
		return nil // StopAwaiting
	}
	return err
}

// StopAwaiting implements endAwaiter. Nothing else sets read deadlines meanwhile.
func (d *socketDown) StopAwaiting(stopped <-chan struct{}) {
	_ = d.ws.SetReadDeadline(socket.LongAgo) // a closed connection needs none
	<-stopped
	_ = d.ws.SetReadDeadline(time.Time{}) // likewise
}

func (d *socketDown) SendHeader(md metadata.MD, more bool) error {
	return d.guard.Write(func() error { return d.writeHeader(md, more) })
}

// writeHeader sends the frame that must come before any other, even empty.
func (d *socketDown) writeHeader(md metadata.MD, more bool) error {
	d.headerSent = true
	subtype := d.call.subtype
	if subtype == "" {
		subtype = "proto"
	}
	block := codec.AppendHeaderBlock(nil, func(yield func(string, string) bool) {
		if !yield("content-type", web.contentType+"+"+subtype) {
			return
		}
		if len(md["x-request-id"]) == 0 && !yield("x-request-id", d.call.info.ID) {
			return
		}
		if d.codingRefused && !yield("grpc-accept-encoding", readableCodings) {
			return
		}
		codec.Fields(md)(yield)
	})
	return d.writeFrame(codec.FlagTrailers, mem.BufferSlice{mem.SliceBuffer(block)}, more)
}

func (d *socketDown) Send(m mem.BufferSlice, more bool) error {
	defer m.Free()
	return d.guard.Write(func() error {
		if !d.headerSent {
			if err := d.writeHeader(nil, true); err != nil {
				return err
			}
		}
		return d.writeFrame(0, m, more)
	})
}

// writeFrame writes one frame as one message: the clients stop reading a message after
// the first frame of headers.
func (d *socketDown) writeFrame(flag byte, m mem.BufferSlice, more bool) error {
	d.pieces = append(d.pieces[:0], codec.FrameHeader{Flags: flag, Length: uint32(m.Len())}.AppendTo(d.prefix[:0]))
	for _, b := range m {
		d.pieces = append(d.pieces, b.ReadOnlyData())
	}
	err := d.ws.WriteMessage(websocket.Binary, d.call.progress.SentPiece, more, d.pieces...)
	clear(d.pieces) // the sender of m frees them
	d.failed = d.failed || err != nil
	return err
}

// While the call's context lives, Finish waits for a slow reader like any Send. After
// the context has ended, the client has a moment to accept the rest.
func (d *socketDown) Finish(st *status.Status, trailer metadata.MD) error {
	err := d.guard.LastWrite(func(late bool) error {
		if late {
			_ = d.ws.SetWriteDeadline(time.Now().Add(d.call.lastMoment())) // a closed connection fails the write
			return d.writeEnd(st, trailer)
		}
		if err := d.writeEnd(st, trailer); err != nil {
			return err
		}
		return socket.AwaitWritable(d.ws.NetConn()) // for what is left to write, which has 5 s
	})
	if err != nil {
		d.ws.Drop()
		return err
	}
	code, patience := d.s.goodbye()
	if d.on.Ended() == report.EndedSilent {
		code = websocket.StatusGoingAway // applications don't call again after 1000
	}
	d.ws.Close(code, "", min(patience, d.call.lastMoment()), d.s.closing.Load)
	if !d.ws.Sent() {
		return socket.ErrEnded // the status, too
	}
	return nil
}

// Abort implements downstream.
func (d *socketDown) Abort() {
	d.guard.Stop()
	d.ws.Drop()
}

// smallTrailers always fit when the socket is writable at all.
const smallTrailers = 4 << 10

func (d *socketDown) writeEnd(st *status.Status, trailer metadata.MD) error {
	if d.failed {
		return socket.ErrEnded
	}
	if !d.headerSent {
		if err := d.writeHeader(nil, true); err != nil {
			return err
		}
	}
	block := codec.AppendHeaderBlock(nil, codec.BrowserTrailers(st, trailer))
	// Ordinary trailers, with little data before them, leave with the close frame,
	// which has its own time: a slow reader needs more time for the rest.
	more := len(block)+d.ws.Held() <= smallTrailers
	return d.writeFrame(codec.FlagTrailers, mem.BufferSlice{mem.SliceBuffer(block)}, more)
}
