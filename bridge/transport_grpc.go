package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A dialect describes how one of the framed protocols differs from the others: native
// gRPC, gRPC-Web and its text form share the frames, not the trailers.
type dialect struct {
	contentType string
	trailers    bool // HTTP trailers carry the status; else a frame does
	text        bool // the body is base64
}

var (
	native  = &dialect{contentType: "application/grpc", trailers: true}
	web     = &dialect{contentType: "application/grpc-web"}
	webText = &dialect{contentType: "application/grpc-web-text", text: true}
)

// serveFramed serves one dialect.
func serveFramed(d *dialect) func(*Server, http.ResponseWriter, *http.Request, *arrival) {
	return func(s *Server, w http.ResponseWriter, r *http.Request, a *arrival) {
		if d.trailers && r.ProtoMajor == 1 {
			s.refuseMistake(w, r, a, &mistake{code: http.StatusHTTPVersionNotSupported, text: "native gRPC needs HTTP/2 all the way, and a proxy on the way speaks HTTP/1.1: use gRPC-Web or a WebSocket", likely: true})
			return
		}
		s.serveHTTPCall(d, w, r, a)
	}
}

// readTimeout reads a grpc-timeout, if there is one. The shorter of two counts: a
// WebSocket may have one in its upgrade request and one in its first message.
func (c *call) readTimeout(values []string) error {
	if len(values) == 0 {
		return nil
	}
	timeout, err := codec.ParseTimeout(values[0])
	if err != nil {
		return report.New(report.ReasonBadRequest, err.Error())
	}
	timeout = max(timeout, 1)
	if c.Timeout == 0 || timeout < c.Timeout {
		c.Timeout = timeout
	}
	return nil
}

// readableCodings is the value of grpc-accept-encoding.
const readableCodings = "gzip, identity"

// errCoding refuses a grpc-encoding. The answer then has grpc-accept-encoding.
var errCoding = report.New(report.ReasonUnsupportedEncoding, "culvert doesn't support this encoding of messages: use gzip or identity")

// readCodings reads a grpc-encoding and a grpc-accept-encoding: the compression that
// the client uses, and those that it can read.
func (c *call) readCodings(encoding, accepted []string) error {
	if len(encoding) > 0 {
		switch encoding[0] {
		case "", "identity":
		case "gzip":
			c.coding = "gzip"
		default:
			return errCoding
		}
	}
	c.takesGzip = headerHasToken(accepted, "gzip")
	return nil
}

// readHeader reads the gRPC fields in the header of a request.
func (c *call) readHeader(h http.Header) error {
	if err := c.readTimeout(h["Grpc-Timeout"]); err != nil {
		return err
	}
	return c.readCodings(h["Grpc-Encoding"], h["Grpc-Accept-Encoding"])
}

func (s *Server) serveHTTPCall(d *dialect, w http.ResponseWriter, r *http.Request, a *arrival) {
	liftTimeouts(w, r)
	c, refused := s.newHTTPCall(r, a)
	if refused == nil {
		refused = c.readHeader(r.Header)
	}
	if refused == nil {
		refused = s.settle(c)
	}
	c.subtype, _ = contentSubtype(r.Header.Get("Content-Type"), d.contentType)
	g := newGRPCStream(s, d, w, r, c, a)
	g.answer.codingRefused = errors.Is(refused, errCoding)
	if refused == nil {
		refused = g.decodeBody()
	}
	s.handle(r.Context(), c, g, a.conn, refused)
	g.first.Free() // read ahead and never handed out
	g.close()
}

// grpcWebRefusal adds to the header of an HTTP refusal the fields that a gRPC-Web
// client shows.
func grpcWebRefusal(h http.Header, r *http.Request, code int, text string) {
	if strings.HasPrefix(mediaType(r), web.contentType) {
		h.Set("Grpc-Status", strconv.Itoa(int(codec.CodeFromHTTP(code))))
		h.Set("Grpc-Message", codec.EncodeMessage("culvert: "+text))
	}
}

// A grpcStream is the client's end of a call of the gRPC family over HTTP.
type grpcStream struct {
	httpStream
	d      *dialect
	answer grpcAnswer

	body   message.Reader
	frames message.GRPC
	first  mem.BufferSlice // read ahead, if ahead
	ahead  bool
}

func newGRPCStream(s *Server, d *dialect, w http.ResponseWriter, r *http.Request, c *call, a *arrival) *grpcStream {
	g := &grpcStream{d: d, answer: grpcAnswer{d: d, text: d.text}}
	if !d.trailers && strings.Contains(strings.ToLower(r.Header.Get("Accept")), webText.contentType) {
		g.answer.text = true
	}
	g.open(s, w, r, c, a, &g.answer)
	g.frames.Coding = c.coding
	g.body = message.Reader{Body: g.source, Limit: c.messages, Held: c.held, Use: &c.use, Gets: &c.progress, Frames: &g.frames}
	return g
}

// Bind implements downstream.
func (g *grpcStream) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	g.body.Ctx = ctx
	g.httpStream.Bind(ctx, cancel)
}

// decodeBody puts the decoders of the whole body in front of the reader of frames.
func (g *grpcStream) decodeBody() (err error) {
	g.body.Body, g.body.Packed, err = g.unpacked()
	if g.d.text {
		g.body.Body = codec.NewTextReader(g.body.Body)
	}
	return err
}

// Prepare reads a request that is one message of known length. Then the call needs one
// goroutine, and net/http, which looks for a disconnect only after the body's end, can
// notice one. Native gRPC doesn't show where the request ends.
func (g *grpcStream) Prepare(ctx context.Context) error {
	g.received = true
	length := g.r.ContentLength
	if g.d == native || length <= 0 || g.r.Header.Get("Content-Encoding") != "" {
		return nil
	}
	return g.early(func() error { return g.readSingle(ctx, length) })
}

// readSingle reads the first message of a body of that length, and reports whether it
// is the only one.
func (g *grpcStream) readSingle(ctx context.Context, length int64) (err error) {
	if g.first, err = g.body.Next(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, io.EOF) { // nothing but padding
			return report.New(report.ReasonBadRequest, "the request holds no message")
		}
		return err
	}
	g.ahead = true
	want := int64(codec.FrameHeaderBytes) + int64(g.frames.Length)
	if g.d.text {
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

// Recv implements downstream.
func (g *grpcStream) Recv() (mem.BufferSlice, error) {
	if g.ahead {
		m := g.first
		g.first, g.ahead = nil, false
		return m, nil
	}
	return g.body.Next()
}
