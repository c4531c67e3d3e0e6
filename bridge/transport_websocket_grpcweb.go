package bridge

import (
	"cmp"
	"context"
	"maps"
	"net/http"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// openGRPCSocket opens one call on one WebSocket, in the protocol of improbable-eng's
// grpc-web: the client's first message has the metadata, and each later one a marker
// byte and bytes of a gRPC-Web body. The server answers with gRPC-Web frames, one in
// each message.
func openGRPCSocket(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	d := new(grpcSocket)
	d.open(w, r, c, d)
	d.subprotocol = "grpc-websockets"
	c.partial = true
	return d, c.readHeader(r.Header)
}

// A grpcSocket is a socketStream with the framing of grpc-websockets.
type grpcSocket struct {
	socketStream
	frames message.GRPC
	stream message.SocketBody

	prefix     [codec.FrameHeaderBytes]byte // writeFrame's own, as a piece
	headerSent bool
}

// first implements framing: the first message is metadata.
func (d *grpcSocket) first(ctx context.Context) error {
	block, err := d.readFirst(ctx, "metadata", websocket.Binary, message.TextFault)
	if err == nil {
		err = d.readMetadata(block)
	}
	d.frames.Coding, d.stream.WS = d.call.coding, d.ws
	d.read(ctx, &d.stream, &d.frames)
	return err
}

// readMetadata adds the metadata of the first message to that of the upgrade request,
// except names that only the upgrade request can set.
func (d *grpcSocket) readMetadata(first []byte) error {
	c := d.call
	block, err := codec.ParseHeaderBlock(first)
	if err != nil {
		return report.New(report.ReasonBadRequest, "the metadata message can't be read: "+err.Error())
	}
	md, dropped, err := headers.Block(block, c.policy.encoded)
	if err != nil {
		return err
	}
	c.noteDropped(dropped)
	c.policy.vouched.Strike(md, false)
	if c.relayed && (md["traceparent"] != nil || md["tracestate"] != nil) {
		c.name(func(i *report.CallInfo) { i.Trusted = false }) // the proxy hasn't seen them
	}
	if c.auth != nil && len(md["authorization"]) > 0 {
		c.auth.own = true
	}
	maps.Copy(c.Metadata, md)
	if size := headers.Size(c.Metadata); size > c.headers.Bytes {
		return headers.TooLarge("request", size, c.headers)
	}
	if ua := block["x-user-agent"]; len(ua) > 0 && c.Metadata["x-user-agent"] == nil && codec.ValidValue(ua[0]) {
		c.Metadata["x-user-agent"] = ua[:1]
	}
	if id := block["x-request-id"]; len(id) > 0 && saneID(id[0]) {
		c.name(func(i *report.CallInfo) { i.ID = id[0] })
	}
	if err := c.readCodings(block["grpc-encoding"], nil); err != nil {
		return err
	}
	for _, v := range block["content-type"] {
		c.subtype, _ = gate.ContentSubtype(v, web.contentType)
	}
	if err := c.readTimeout(block["grpc-timeout"], codec.ParseTimeout); err != nil {
		return err
	}
	c.convertJSON()
	return nil
}

// await implements framing.
func (d *grpcSocket) await() error { return d.stream.Await() }

// left implements framing: a client that closes the WebSocket ends its call.
func (*grpcSocket) left() bool { return false }

// header implements framing.
func (d *grpcSocket) header(md metadata.MD, more bool) error {
	return d.guard.Write(func() error { return d.writeHeader(md, more) })
}

// writeHeader sends the frame that must come before any other, even empty.
func (d *grpcSocket) writeHeader(md metadata.MD, more bool) error {
	d.headerSent = true
	subtype := cmp.Or(d.call.subtype, "proto")
	buf := d.call.s.account.Pool.Get(usualTrailers)
	defer d.call.s.account.Pool.Put(buf)
	block := codec.AppendHeaderBlock((*buf)[:0], func(yield func(string, string) bool) {
		if !yield("content-type", web.contentType+"+"+subtype) {
			return
		}
		if len(md["x-request-id"]) == 0 && !yield("x-request-id", d.call.info.ID) {
			return
		}
		if d.call.codingRefused() && !yield("grpc-accept-encoding", readableCodings) {
			return
		}
		codec.Fields(md)(yield)
	})
	return d.writeFrame(codec.FlagTrailers, mem.BufferSlice{mem.SliceBuffer(block)}, more)
}

// message implements framing.
func (d *grpcSocket) message(m mem.BufferSlice, more bool) error {
	if !d.headerSent {
		if err := d.writeHeader(nil, true); err != nil {
			return err
		}
	}
	return d.writeFrame(0, m, more)
}

// writeFrame writes one frame as one message: the clients stop reading a message after
// the first frame of headers.
func (d *grpcSocket) writeFrame(flag byte, m mem.BufferSlice, more bool) error {
	prefix := codec.FrameHeader{Flags: flag, Length: uint32(m.Len())}.AppendTo(d.prefix[:0])
	return d.write(websocket.Binary, prefix, m, more)
}

// closing implements framing: the trailers have the status.
func (d *grpcSocket) closing(*status.Status) (websocket.StatusCode, string) {
	if d.call.on.Ended() == report.EndedSilent {
		return websocket.StatusGoingAway, "" // applications don't call again after 1000
	}
	return 0, ""
}

// smallTrailers always fit when the socket is writable at all.
const smallTrailers = 4 << 10

// last implements framing.
func (d *grpcSocket) last(st *status.Status, trailer metadata.MD) error {
	if !d.headerSent {
		if err := d.writeHeader(nil, true); err != nil {
			return err
		}
	}
	buf := d.call.s.account.Pool.Get(usualTrailers)
	defer d.call.s.account.Pool.Put(buf)
	block := codec.AppendHeaderBlock((*buf)[:0], codec.BrowserTrailers(st, trailer))
	// Ordinary trailers, with little data before them, leave with the close frame,
	// which has its own time: a slow reader needs more time for the rest.
	more := len(block)+d.ws.Held() <= smallTrailers
	return d.writeFrame(codec.FlagTrailers, mem.BufferSlice{mem.SliceBuffer(block)}, more)
}
