package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A dialect is how one of the framed protocols differs from the others: native
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
			s.refuseMistake(w, r, a, &mistake{code: http.StatusHTTPVersionNotSupported, text: "native gRPC needs HTTP/2 all the way: a proxy on it speaks HTTP/1.1. Use gRPC-Web or a WebSocket", likely: true})
			return
		}
		s.serveHTTPCall(d, w, r, a)
	}
}

// readTimeout reads a grpc-timeout, if there is one.
func (c *Call) readTimeout(values []string) error {
	if len(values) == 0 {
		return nil
	}
	timeout, err := codec.ParseTimeout(values[0])
	if err != nil {
		return report.New(report.ReasonBadRequest, err.Error())
	}
	c.Timeout = max(timeout, 1)
	return nil
}

// readableCodings is grpc-accept-encoding, where it is told.
const readableCodings = "gzip, identity"

// errCoding refuses a grpc-encoding. The answer then has grpc-accept-encoding.
var errCoding = report.New(report.ReasonUnsupportedEncoding, "messages are compressed with a coding that can't be read here: want gzip or identity")

// readCodings reads a grpc-encoding and a grpc-accept-encoding: how the client
// compresses, and what it can read.
func (c *Call) readCodings(encoding, accepted []string) error {
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

func (s *Server) serveHTTPCall(d *dialect, w http.ResponseWriter, r *http.Request, a *arrival) {
	liftTimeouts(w, r)
	c, refused := s.newHTTPCall(r, a)
	if refused == nil {
		refused = c.readTimeout(r.Header["Grpc-Timeout"])
	}
	if refused == nil {
		refused = c.readCodings(r.Header["Grpc-Encoding"], r.Header["Grpc-Accept-Encoding"])
	}
	c.subtype, _ = contentSubtype(r.Header.Get("Content-Type"), d.contentType)
	down := newHTTPDown(s, d, w, r, c, a)
	down.codingRefused = errors.Is(refused, errCoding)
	if refused == nil {
		refused = down.decodeBody(r)
	}
	s.handle(r.Context(), c, down, a.conn, refused)
	down.first.Free() // read ahead and never asked for
	if !down.source.atEnd.Load() {
		a.on.LeaveBody(w, r)
	}
	if down.aborted {
		panic(http.ErrAbortHandler) // RST_STREAM, or a cut connection
	}
}

// Prepare reads a request that is one message of known length. Then the
// call needs one goroutine, and net/http, which looks for a disconnect only
// after the body's end, can see one. Native gRPC doesn't show where the
// request ends.
func (h *httpDown) Prepare(ctx context.Context) error {
	h.received = true
	length := h.r.ContentLength
	if h.d == native || length <= 0 || h.r.Header.Get("Content-Encoding") != "" {
		return nil
	}
	cut := func() {
		h.readCut = true
		_ = h.rc.SetReadDeadline(longAgo) // a stream that is gone needs none
	}
	return h.guard.read(cut, func() error { return h.readSingle(ctx, length) })
}

// readSingle reads the first message of a body of that length, and whether it is
// the only one.
func (h *httpDown) readSingle(ctx context.Context, length int64) (err error) {
	if h.first, err = h.body.next(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, io.EOF) { // nothing but padding
			return report.New(report.ReasonBadRequest, "the request holds no message")
		}
		return err
	}
	h.ahead = true
	want := int64(codec.FrameHeaderBytes) + h.frameBytes()
	if h.d.text {
		want = (want + 2) / 3 * 4
	}
	if length != want {
		return nil
	}
	var probe [1]byte
	if n, err := h.body.body.Read(probe[:]); n == 0 && errors.Is(err, io.EOF) {
		h.call.Complete = true
	}
	return nil
}

// frameBytes is the length that the last prefix announced.
func (h *httpDown) frameBytes() int64 {
	f, _, _ := codec.ParseFrameHeader(h.body.prefix[:]) // it was read before
	return int64(f.Length)
}

func (h *httpDown) Recv() (mem.BufferSlice, error) {
	if h.ahead {
		m := h.first
		h.first, h.ahead = nil, false
		return m, nil
	}
	return h.body.next()
}
