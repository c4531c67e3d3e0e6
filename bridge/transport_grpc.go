package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A dialect describes how one of the framed protocols differs from the others: native
// gRPC, gRPC-Web, its text form and Connect's streams share the frames, not the end.
type dialect struct {
	contentType string
	trailers    bool // HTTP trailers carry the status; else a frame does
	text        bool // the body is base64
	connect     bool // the status is JSON, and headers have Connect's names
	encoding    string
	accepts     string // the header with the readable codings
}

var (
	native        = &dialect{contentType: "application/grpc", trailers: true, encoding: "grpc-encoding", accepts: "grpc-accept-encoding"}
	web           = &dialect{contentType: "application/grpc-web", encoding: "grpc-encoding", accepts: "grpc-accept-encoding"}
	webText       = &dialect{contentType: "application/grpc-web-text", text: true, encoding: "grpc-encoding", accepts: "grpc-accept-encoding"}
	connectStream = &dialect{contentType: "application/connect", connect: true, encoding: "connect-content-encoding", accepts: "connect-accept-encoding"}
)

// nativeMistake returns the mistake of a native call over HTTP/1.1.
func nativeMistake(r *http.Request, _ *arrival) *report.Fault {
	if r.ProtoMajor != 1 {
		return nil
	}
	return likely(http.StatusHTTPVersionNotSupported, "native gRPC needs HTTP/2 all the way, and a proxy on the way speaks HTTP/1.1: use gRPC-Web or a WebSocket")
}

// readHeader reads the dialect's fields in the header of a request.
func (d *dialect) readHeader(c *call, h http.Header) error {
	if !d.connect {
		return c.readHeader(h)
	}
	if err := c.readConnectHeader(h); err != nil {
		return err
	}
	return c.readCodings(h["Connect-Content-Encoding"], h["Connect-Accept-Encoding"])
}

// open implements transport.
func (d *dialect) open(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	fault := d.readHeader(c, r.Header)
	c.subtype, _ = gate.ContentSubtype(r.Header.Get("Content-Type"), d.contentType)
	if d != native { // which may have codecs of its own
		c.convertJSON()
	}
	return newGRPCStream(d, w, r, c), fault
}

// grpcWebRefusal adds to the header of an HTTP refusal the fields that a gRPC-Web
// client shows.
func grpcWebRefusal(h http.Header, r *http.Request, code int, text string) {
	if strings.HasPrefix(gate.MediaType(r), web.contentType) {
		h.Set("Grpc-Status", strconv.Itoa(int(codec.CodeFromHTTP(code))))
		h.Set("Grpc-Message", codec.EncodeMessage("culvert: "+text))
	}
}

// A bodyStream is an httpStream whose body has the messages.
type bodyStream struct {
	httpStream
	body  message.Reader
	first mem.BufferSlice // read ahead, if ahead
	ahead bool
}

// Bind implements downstream.
func (b *bodyStream) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	c := b.call
	b.body.Ctx, b.body.Limit, b.body.Held, b.body.Use, b.body.Gets = ctx, &c.messages, c.held, &c.use, &c.progress
	b.httpStream.Bind(ctx, cancel)
}

// Close implements handled.
func (b *bodyStream) Close() {
	b.first.Free() // read ahead and never handed out
	b.httpStream.Close()
}

// readFirst reads the first message ahead.
func (b *bodyStream) readFirst(ctx context.Context) (err error) {
	if b.first, err = b.body.Next(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	b.ahead = true
	return nil
}

// Recv implements downstream.
func (b *bodyStream) Recv() (mem.BufferSlice, error) {
	if b.ahead {
		m := b.first
		b.first, b.ahead = nil, false
		return m, nil
	}
	return b.body.Next()
}

// A grpcStream is the client's end of a call of the gRPC family over HTTP, or of a
// Connect stream.
type grpcStream struct {
	bodyStream
	answer grpcAnswer
	frames message.GRPC
}

func newGRPCStream(d *dialect, w http.ResponseWriter, r *http.Request, c *call) *grpcStream {
	g := &grpcStream{answer: grpcAnswer{d: d, text: d.text}}
	if !d.trailers && !d.connect && strings.Contains(strings.ToLower(r.Header.Get("Accept")), webText.contentType) {
		g.answer.text = true
	}
	g.httpStream.open(w, r, c, &g.answer)
	if d == web && !g.answer.text && r.Header[codec.Heartbeat] != nil {
		c.beats = &beats{h: &g.httpStream, in: g}
		w.Header()[codec.Heartbeat] = headerWhole
	}
	g.trailing = d.trailers
	g.frames.Coding = c.coding
	g.body.Body, g.body.Frames = g.source, &g.frames
	return g
}

// decodeBody implements bodyDecoder: it puts the decoders of the whole body in front of the
// reader of frames.
func (g *grpcStream) decodeBody() (err error) {
	g.body.Body, g.body.Packed, err = g.unpacked()
	if g.answer.d.text {
		g.body.Body = codec.NewTextReader(g.body.Body)
	}
	return err
}

// Prepare reads a request that is one message of known length. Then the call needs one
// goroutine, and net/http, which looks for a disconnect only after the body's end, can
// notice one. A length that a native client announces doesn't count: it may wait for a
// reply before it sends the rest. But the whole request of a unary call has usually arrived
// by now.
func (g *grpcStream) Prepare(ctx context.Context) error {
	g.received = true
	length := g.r.ContentLength
	if g.answer.d == native || length < 0 {
		length = h2.Whole(g.r)
	}
	if length <= 0 || g.body.Packed != nil {
		return nil
	}
	return g.early(func() error { return g.readSingle(ctx, length) })
}

// readSingle reads the first message of a body of that length, and reports whether it
// is the only one.
func (g *grpcStream) readSingle(ctx context.Context, length int64) (err error) {
	if err = g.readFirst(ctx); err != nil {
		if errors.Is(err, io.EOF) { // nothing but padding
			return report.New(report.ReasonBadRequest, "the request holds no message")
		}
		return err
	}
	want := int64(codec.FrameHeaderBytes) + int64(g.frames.Length)
	if g.answer.d.text {
		want = (want + 2) / 3 * 4
	}
	if length != want {
		return nil
	}
	var probe [1]byte
	if n, err := g.body.Body.Read(probe[:]); n == 0 && errors.Is(err, io.EOF) {
		g.call.Complete = true
	}
	return nil
}
