package bridge

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

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
			refuse(w, r, http.StatusHTTPVersionNotSupported, "native gRPC needs HTTP/2 all the way: a proxy on it speaks HTTP/1.1. Use gRPC-Web or a WebSocket")
			return
		}
		s.serveHTTPCall(d, w, r, a)
	}
}

func (s *Server) serveHTTPCall(d *dialect, w http.ResponseWriter, r *http.Request, a *arrival) {
	c, refused := s.newCall(r, a)
	c.subtype, _ = contentSubtype(r, d.contentType)
	down := newHTTPDown(s, d, w, r, c, a)
	if refused == nil {
		refused = down.decodeBody(r)
	}
	c.bind = func(ctx context.Context, _ context.CancelCauseFunc) {
		down.body.ctx = ctx
		down.guard.watch(ctx, func() { _ = down.rc.SetWriteDeadline(longAgo) }) // a stream that is gone needs none
	}
	c.prepare = down.readComplete
	s.handle(r.Context(), c, down, a.conn, refused)
	down.first.Free() // read ahead and never asked for
	if r.ProtoMajor == 1 && !down.source.atEnd.Load() {
		endBody(w, r)
	}
	if down.aborted {
		panic(http.ErrAbortHandler) // RST_STREAM, or a cut connection
	}
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
	conn    net.Conn // of HTTP/1.1; nil on HTTP/2
	call    *Call
	origin  originVerdict
	guard   writeGuard
	textOut bool

	body     messageReader
	source   *requestBody
	first    mem.BufferSlice // read ahead, if ahead
	ahead    bool
	received bool // the body is being read from here on

	headerSent bool
	packed     bool // messages are compressed
	aborted    bool
	readCut    bool // a past deadline broke off the reading: net/http then ends the connection's context
}

func newHTTPDown(s *Server, d *dialect, w http.ResponseWriter, r *http.Request, c *Call, a *arrival) *httpDown {
	down := &httpDown{s: s, d: d, w: w, rc: http.NewResponseController(w), r: r, conn: a.conn, call: c, origin: a.origin, textOut: d.text}
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
	down.body = messageReader{body: down.source, limit: s.limits.MessageBytes, ledger: c.ledger, gets: &c.progress, coding: c.coding}
	return down
}

// decodeBody puts the decoders of the whole body before the reader of frames:
// the content coding is the outermost (RFC 9110 §8.4).
func (h *httpDown) decodeBody(r *http.Request) error {
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity":
	case "gzip":
		h.body.body = &gzipBody{src: sourceReader{r: h.body.body}}
	default:
		return newFault(ReasonUnsupportedEncoding, "the body is compressed with a coding that can't be read here: want gzip or identity")
	}
	if h.d.text {
		h.body.body = codec.NewTextReader(h.body.body)
	}
	return nil
}

// readComplete reads a request that is one message of known length. Then the
// call needs one goroutine, and net/http, which looks for a disconnect only
// after the body's end, can see one. Native gRPC doesn't show where the
// request ends.
func (h *httpDown) readComplete(ctx context.Context) error {
	h.received = true
	length := h.r.ContentLength
	if h.d == native || length <= 0 || h.r.Header.Get("Content-Encoding") != "" {
		return nil
	}
	stop := whenEnded(ctx, func() {
		h.readCut = true
		_ = h.rc.SetReadDeadline(longAgo) // a stream that is gone needs none
	})
	defer stop()
	var err error
	if h.first, err = h.body.next(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, io.EOF) { // nothing but padding
			return newFault(ReasonBadRequest, "the request holds no message")
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

func (h *httpDown) SendHeader(md metadata.MD, more bool) error {
	if !h.guard.begin() {
		return errEnded
	}
	h.packed = h.call.packReplies && h.d.trailers
	h.writeHeader(codec.Fields(md))
	var err error
	if !more {
		err = h.rc.Flush()
	}
	if !h.guard.end() {
		return errEnded
	}
	return err
}

// errEnded says that a write was not made or not finished because the call
// had ended.
var errEnded = errors.New("the call ended before the write")

// writeHeader sends HTTP 200 and the fields.
func (h *httpDown) writeHeader(fields func(yield func(string, string) bool)) {
	header := h.w.Header()
	for name, value := range fields {
		header[name] = append(header[name], value)
	}
	names := slices.Sorted(maps.Keys(header))
	if !slices.Contains(names, "x-request-id") {
		header["X-Request-Id"] = []string{h.call.info.ID}
	}
	header["Content-Type"] = []string{h.contentType()}
	header["Date"] = nil // else the client sees it as metadata
	if h.d.trailers || h.call.codingRefused {
		header["grpc-accept-encoding"] = []string{readableCodings}
	}
	if h.packed {
		header["grpc-encoding"] = []string{"gzip"}
	}
	if !h.d.trailers {
		for _, name := range []string{"cache-control", "x-accel-buffering", "x-content-type-options"} {
			delete(header, name)
		}
		header["Cache-Control"] = []string{"no-store, no-transform"}
		header["X-Accel-Buffering"] = []string{"no"}
		header["X-Content-Type-Options"] = []string{"nosniff"}
	}
	if h.origin.origin != "" {
		corsHeaders(header, h.origin)
		header["Access-Control-Expose-Headers"] = []string{exposed(names)}
	}
	if h.r.ProtoMajor == 1 && (h.readCut || !h.source.atEnd.Load() || h.s.draining.Load()) {
		// What is left of the body would be served as the next request, and
		// a connection whose context has ended can serve none.
		header["Connection"] = []string{"close"}
	}
	h.headerSent = true
	h.w.WriteHeader(http.StatusOK)
}

// contentType is the request's family, without parameters, since a client
// compares the whole.
func (h *httpDown) contentType() string {
	base, subtype := h.d.contentType, h.call.subtype
	switch {
	case h.d.trailers:
	case h.textOut:
		base = webText.contentType
	default:
		base = web.contentType
		if subtype == "" {
			subtype = "proto"
		}
	}
	if subtype == "" {
		return base
	}
	return base + "+" + subtype
}

func (h *httpDown) Send(m mem.BufferSlice, more bool) error {
	flag := byte(0)
	if h.packed && m.Len() > 0 {
		packed, err := compress(m, h.s.budget.pool)
		if err != nil {
			return newFault(ReasonInternal, "internal error").because(err)
		}
		m, flag = packed, codec.FlagCompressed
	}
	defer m.Free()
	if !h.guard.begin() {
		return errEnded
	}
	if !h.headerSent {
		h.writeHeader(codec.Fields(nil))
	}
	client, _ := h.conn.(*clientConn) // nil on TLS and HTTP/2
	if more && client != nil {
		client.batch.hold(h.s.budget.pool)
	}
	err := h.writeFrame(flag, m)
	if err == nil && !more {
		err = h.rc.Flush()
	}
	if err == nil && !more && client != nil {
		err = client.batch.end(client.Conn)
	}
	if !h.guard.end() {
		return errEnded
	}
	return err
}

// writeFrame writes one frame; as text it is one chunk of base64, padded.
func (h *httpDown) writeFrame(flag byte, m mem.BufferSlice) error {
	var w io.Writer = h.w
	var text io.WriteCloser
	if h.textOut {
		text = base64.NewEncoder(base64.StdEncoding, h.w)
		w = text
	}
	var prefix [codec.FrameHeaderBytes]byte
	length := uint32(m.Len())
	if _, err := w.Write(codec.FrameHeader{Flags: flag, Length: length}.AppendTo(prefix[:0])); err != nil {
		return err
	}
	for _, b := range m {
		if _, err := w.Write(b.ReadOnlyData()); err != nil {
			return err
		}
		h.call.progress.sentPiece()
	}
	if text != nil {
		return text.Close()
	}
	return nil
}

// Finish waits for a slow reader like any Send while the call's context
// lives. When that has ended, the client has a moment to take what is left.
func (h *httpDown) Finish(st *status.Status, trailer metadata.MD) error {
	defer h.stopReading()
	h.readRest()
	var err error
	var whole bool
	if h.guard.begin() {
		err = h.writeEnd(st, trailer)
		whole = h.guard.end()
		h.guard.release()
	} else if whole = h.guard.release(); whole && (h.r.Context().Err() == nil || !isGone(st)) {
		_ = h.rc.SetWriteDeadline(time.Now().Add(closeTimeout)) // a foreign ResponseWriter may have none
		err = h.writeEnd(st, trailer)
		_ = h.rc.SetWriteDeadline(time.Time{}) // the connection may go on
	} else {
		err = errEnded
	}
	if err == nil && !whole {
		err = errEnded
	}
	h.aborted = err != nil
	return err
}

// readRest reads the short body of a call that was refused before anybody read
// it, so that its HTTP/1.1 connection can go on.
func (h *httpDown) readRest() {
	if h.received || h.r.ProtoMajor != 1 || h.source.atEnd.Load() || h.r.ContentLength < 0 || h.r.ContentLength > smallBytes {
		return
	}
	_ = h.rc.SetReadDeadline(time.Now().Add(unreadTime)) // a foreign ResponseWriter may have none
	_, _ = io.Copy(io.Discard, h.source)                 // if it fails the connection closes
	if h.source.atEnd.Load() {
		_ = h.rc.SetReadDeadline(time.Time{})
	}
}

func (h *httpDown) writeEnd(st *status.Status, trailer metadata.MD) error {
	if h.d.trailers {
		h.writeTrailers(st, trailer)
		return nil
	}
	return h.writeTrailersFrame(st, trailer)
}

// isGone says that the status is for nobody.
func isGone(st *status.Status) bool { return st.Code() == errGone.row().Code }

// writeTrailers sets HTTP trailers, which net/http sends when the handler
// returns. Without a header before, it is a Trailers-Only answer: one HEADERS
// frame. gRPC PROTOCOL-HTTP2, "Responses".
func (h *httpDown) writeTrailers(st *status.Status, trailer metadata.MD) {
	fields := codec.Trailers(st, trailer)
	if !h.headerSent {
		h.w.Header()["Content-Length"] = nil // net/http would add "0", which the client sees as metadata
		h.writeHeader(fields)
		return
	}
	header := h.w.Header()
	for name, value := range fields {
		key := http.TrailerPrefix + name
		header[key] = append(header[key], value)
	}
}

// writeTrailersFrame ends a gRPC-Web body: exactly one frame, and the status
// nowhere else.
func (h *httpDown) writeTrailersFrame(st *status.Status, trailer metadata.MD) error {
	if !h.headerSent {
		h.writeHeader(codec.Fields(nil))
	}
	block := codec.AppendHeaderBlock(nil, codec.BrowserTrailers(st, trailer))
	if err := h.writeFrame(codec.FlagTrailers, mem.BufferSlice{mem.SliceBuffer(block)}); err != nil {
		return err
	}
	err := h.rc.Flush()
	if client, ok := h.conn.(*clientConn); ok && err == nil {
		err = client.batch.end(client.Conn)
	}
	return err
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
