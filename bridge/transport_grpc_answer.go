package bridge

import (
	"encoding/base64"
	"io"
	"iter"
	"net/http"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/codec"
)

// A grpcAnswer is the encoder of the gRPC family and of Connect's streams: frames, and a
// status in HTTP trailers or in a last frame.
type grpcAnswer struct {
	d      *dialect
	text   bool // the body is base64
	packed bool // messages are compressed
}

// header implements encoder.
func (e *grpcAnswer) header(h *httpStream, md metadata.MD, more bool) error {
	e.packed = h.call.packReplies && (e.d.trailers || e.d.connect)
	if h.out.begun { // by a heart-beat
		return e.frame(h, codec.FlagHeader, mem.BufferSlice{mem.SliceBuffer(codec.AppendHeaderBlock(nil, codec.Fields(md)))}, more)
	}
	e.begin(h, codec.Fields(md), more)
	return h.flushUnless(more)
}

// These header values are never written to.
var (
	canRead  = []string{readableCodings}
	gzipped  = []string{"gzip"}
	webProto = []string{web.contentType + "+proto"}
)

// begin sends HTTP 200 and the fields, unless all of a short answer can go out
// together.
func (e *grpcAnswer) begin(h *httpStream, fields iter.Seq2[string, string], more bool) {
	var header http.Header
	if e.d.trailers {
		header = h.makeHeader(fields)
	} else {
		header = h.makeWebHeader(fields)
	}
	header["Content-Type"] = e.contentType(h.call.subtype)
	if e.d.trailers || h.call.codingRefused() {
		header[e.d.accepts] = canRead
	}
	if e.packed {
		header[e.d.encoding] = gzipped
	}
	h.begin(http.StatusOK, more && !e.d.trailers)
}

// contentType returns the request's family, without parameters, since clients compare
// the whole.
func (e *grpcAnswer) contentType(subtype string) []string {
	base := e.d.contentType
	switch {
	case e.d.trailers, e.d.connect:
	case e.text:
		base = webText.contentType
	case subtype == "", subtype == "proto": // nearly every call
		return webProto
	default:
		base = web.contentType
	}
	if subtype == "" {
		return []string{base}
	}
	return []string{base + "+" + subtype}
}

// message implements encoder.
func (e *grpcAnswer) message(h *httpStream, m mem.BufferSlice, more bool) error {
	flag := byte(0)
	if e.packed && m.Len() > 0 {
		packed, err := h.call.pack(m)
		if err != nil {
			return err
		}
		m, flag = packed, codec.FlagCompressed
	}
	defer m.Free()
	if !h.out.begun {
		e.begin(h, codec.Fields(nil), more)
	}
	return e.frame(h, flag, m, more)
}

// frame sends one frame.
func (e *grpcAnswer) frame(h *httpStream, flag byte, m mem.BufferSlice, more bool) error {
	w, err := h.room(codec.FrameHeaderBytes+m.Len(), more)
	if err != nil {
		return err
	}
	if err := e.writeFrame(h, w, flag, m); err != nil {
		return err
	}
	return h.flushUnless(more)
}

// writeFrame writes one frame; as text it is one chunk of base64, padded.
func (e *grpcAnswer) writeFrame(h *httpStream, w io.Writer, flag byte, m mem.BufferSlice) error {
	var text io.WriteCloser
	if e.text {
		text = base64.NewEncoder(base64.StdEncoding, w)
		w = text
	}
	length := uint32(m.Len())
	if _, err := w.Write(codec.FrameHeader{Flags: flag, Length: length}.AppendTo(h.prefix[:0])); err != nil {
		return err
	}
	for _, b := range m {
		if _, err := w.Write(b.ReadOnlyData()); err != nil {
			return err
		}
		h.call.progress.SentPiece()
	}
	if text != nil {
		return text.Close()
	}
	return nil
}

// end implements encoder.
func (e *grpcAnswer) end(h *httpStream, st *status.Status, trailer metadata.MD) error {
	if e.d.trailers {
		return e.writeTrailers(h, st, trailer)
	}
	if f := h.call.httpFault(); e.d.connect && f != nil && !h.out.begun {
		if code, _ := codec.ConnectError(st); code != f.HTTP { // else the last frame says it, with its details
			return e.refuse(h, st)
		}
	}
	return e.writeTrailersFrame(h, st, trailer)
}

// refuse answers a stream whose messages culvert can't convert. Nothing was sent before.
func (e *grpcAnswer) refuse(h *httpStream, st *status.Status) error {
	f := h.call.httpFault()
	header := h.makeWebHeader(codec.Fields(nil))
	header["Content-Type"] = []string{textPlain}
	setHeaders(header, f.Header)
	return h.whole(f.HTTP, mem.BufferSlice{mem.SliceBuffer("culvert: " + st.Message() + "\n")})
}

// writeTrailers writes the status as HTTP trailers. Without a header before, the answer
// is Trailers-Only: one HEADERS frame. gRPC PROTOCOL-HTTP2, "Responses".
func (e *grpcAnswer) writeTrailers(h *httpStream, st *status.Status, trailer metadata.MD) error {
	fields := codec.Trailers(st, trailer)
	if !h.out.begun {
		h.w.Header()["Content-Length"] = nil // net/http would add "0", which the client sees as metadata
		e.begin(h, fields, false)
		_, err := h.settleHTTP2(true)
		return err
	}
	if err := h.settle(false); err != nil {
		return err // without trailers yet: Finish may be called again
	}
	h.trailers(fields)
	return h.settle(true)
}

// writeTrailersFrame ends the body of gRPC-Web and of a Connect stream: the status is in
// exactly one frame, and nowhere else.
func (e *grpcAnswer) writeTrailersFrame(h *httpStream, st *status.Status, trailer metadata.MD) error {
	if !h.out.begun {
		e.begin(h, codec.Fields(nil), true)
	}
	flag, block := codec.FlagEndStream, []byte(nil)
	if e.d.connect {
		block = codec.ConnectEnd(st, trailer)
	} else {
		buf := h.call.s.account.Pool.Get(usualTrailers)
		defer h.call.s.account.Pool.Put(buf)
		flag, block = codec.FlagTrailers, codec.AppendHeaderBlock((*buf)[:0], codec.BrowserTrailers(st, trailer))
	}
	if err := e.writeFrame(h, h.last(), flag, mem.BufferSlice{mem.SliceBuffer(block)}); err != nil {
		return err
	}
	return h.endBody()
}

// usualTrailers is enough for most calls' trailers.
const usualTrailers = 128
