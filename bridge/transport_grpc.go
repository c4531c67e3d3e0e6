package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
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

// liftTimeouts takes from a call what an embedder's server sets for each request
// of HTTP/1.1: a call may take longer, and has limits of its own.
func liftTimeouts(w http.ResponseWriter, r *http.Request) {
	hs, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if hs == nil || hs.ReadTimeout <= 0 && hs.WriteTimeout <= 0 {
		return
	}
	rc := http.NewResponseController(w)
	_ = errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{})) // a foreign ResponseWriter may have none
}

// longAgo as a deadline makes what waits return now.
var longAgo = time.Unix(1, 0)

// httpDown is the client's end of a call that is one HTTP request.
type httpDown struct {
	s       *Server
	d       *dialect
	w       http.ResponseWriter
	rc      *http.ResponseController
	r       *http.Request
	on      *edge.Conn
	call    *Call
	origin  gate.Verdict
	guard   endGuard
	textOut bool

	codingRefused bool // so the client is told what can be read

	body     messageReader
	source   *requestBody
	first    mem.BufferSlice // read ahead, if ahead
	ahead    bool
	received bool // the body is being read from here on

	answer  httpAnswer
	aborted bool
	readCut bool // a past deadline broke off the reading: net/http then ends the connection's context
}

func newHTTPDown(s *Server, d *dialect, w http.ResponseWriter, r *http.Request, c *Call, a *arrival) *httpDown {
	down := &httpDown{s: s, d: d, w: w, rc: http.NewResponseController(w), r: r, on: a.on, call: c, origin: a.origin, textOut: d.text}
	if !d.trailers && strings.Contains(strings.ToLower(r.Header.Get("Accept")), webText.contentType) {
		down.textOut = true
	}
	if r.ProtoMajor == 1 {
		// Without it the first write swallows what of the body is unread.
		_ = down.rc.EnableFullDuplex() // only a foreign ResponseWriter refuses
	}
	down.source = &requestBody{ReadCloser: r.Body}
	if r.ContentLength == 0 {
		down.source.atEnd.Store(true)
	}
	down.body = messageReader{body: down.source, limit: c.messages, ledger: c.ledger, use: &c.use, gets: &c.progress, coding: c.coding}
	return down
}

// Bind implements Downstream.
func (h *httpDown) Bind(ctx context.Context, _ context.CancelCauseFunc) {
	h.body.ctx = ctx
	h.guard.watch(ctx, func() { _ = h.rc.SetWriteDeadline(longAgo) }) // a stream that is gone needs none
}

// decodeBody puts the decoders of the whole body before the reader of frames:
// the content coding is the outermost (RFC 9110 §8.4).
func (h *httpDown) decodeBody(r *http.Request) error {
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity":
	case "gzip":
		h.body.packed = &gzipBody{src: sourceReader{r: h.body.body}, use: &h.call.use}
		h.body.body = h.body.packed
	default:
		return report.New(report.ReasonUnsupportedEncoding, "the body is compressed with a coding that can't be read here: want gzip or identity")
	}
	if h.d.text {
		h.body.body = codec.NewTextReader(h.body.body)
	}
	return nil
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

// stopReading makes a waiting Recv return. On HTTP/1.1 Close would wait behind
// the read, so a past deadline frees it; the connection closes anyway then.
func (h *httpDown) stopReading() {
	if h.r.ProtoMajor == 1 {
		if !h.source.atEnd.Load() {
			_ = h.rc.SetReadDeadline(longAgo) // a foreign ResponseWriter may have none
		}
		return
	}
	_ = h.r.Body.Close() // never fails on HTTP/2
}
