package bridge

import (
	"bytes"
	"encoding/base64"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// An httpAnswer is what of a call's answer has been made.
type httpAnswer struct {
	begun  bool // its header is made
	packed bool // messages are compressed

	// An HTTP/1.1 answer whose end is at hand is gathered while it is short:
	// it goes out whole, with its length, in one piece and not in chunks.
	gathering bool
	gathered  bytes.Buffer
}

// gatherBytes is how much of an answer is gathered at most, base64 and trailers
// aside. With an ordinary header it fits net/http's buffer.
const gatherBytes = 2 << 10

func (h *httpDown) SendHeader(md metadata.MD, more bool) error {
	return h.guard.write(func() error {
		h.answer.packed = h.call.packReplies && h.d.trailers
		h.beginAnswer(codec.Fields(md), more)
		if more {
			return nil
		}
		return h.rc.Flush()
	})
}

// beginAnswer sends HTTP 200 and the fields, unless all of a short answer can
// go out together.
func (h *httpDown) beginAnswer(fields iter.Seq2[string, string], more bool) {
	h.makeHeader(fields)
	h.answer.begun = true
	if more && !h.d.trailers && h.r.ProtoMajor == 1 {
		h.answer.gathering = true
		return
	}
	h.w.WriteHeader(http.StatusOK)
}

// Values that don't change from answer to answer. Nobody writes to a header's.
var (
	noStore     = []string{"no-store, no-transform"}
	noBuffering = []string{"no"}
	noSniffing  = []string{"nosniff"}
	canRead     = []string{readableCodings}
)

func (h *httpDown) makeHeader(fields iter.Seq2[string, string]) {
	header := h.w.Header()
	for name, value := range fields {
		header[name] = append(header[name], value)
	}
	if h.origin.Origin != "" {
		header["Access-Control-Expose-Headers"] = []string{gate.Exposed(header)}
		gate.CORSHeaders(header, h.origin)
	}
	if h.origin.Origin != "" || !h.d.trailers { // to a native client it would be metadata, and no cache keeps what it gets
		gate.VaryAnswer(header)
	}
	if _, told := header["x-request-id"]; !told { //nolint:staticcheck // metadata is lower case
		header["X-Request-Id"] = []string{h.call.info.ID}
	}
	header["Content-Type"] = []string{h.contentType()}
	header["Date"] = nil // else the client sees it as metadata
	if h.d.trailers || h.codingRefused {
		header["grpc-accept-encoding"] = canRead
	}
	if h.answer.packed {
		header["grpc-encoding"] = []string{"gzip"}
	}
	if !h.d.trailers {
		delete(header, "cache-control")
		delete(header, "x-accel-buffering")
		delete(header, "x-content-type-options")
		header["Cache-Control"] = noStore
		header["X-Accel-Buffering"] = noBuffering
		header["X-Content-Type-Options"] = noSniffing
	}
	if h.on.MustClose(h.r, h.readCut || !h.source.atEnd.Load()) {
		header["Connection"] = []string{"close"}
	}
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
	if h.answer.packed && m.Len() > 0 {
		packed, err := compress(m, h.s.budget.Pool)
		if err != nil {
			return report.New(report.ReasonInternal, "internal error").Because(err)
		}
		m, flag = packed, codec.FlagCompressed
	}
	defer m.Free()
	return h.guard.write(func() error { return h.sendFrame(flag, m, more) })
}

func (h *httpDown) sendFrame(flag byte, m mem.BufferSlice, more bool) error {
	if !h.answer.begun {
		h.beginAnswer(codec.Fields(nil), more)
	}
	if h.answer.gathering {
		if more && h.answer.gathered.Len()+codec.FrameHeaderBytes+m.Len() <= gatherBytes {
			return h.writeFrame(&h.answer.gathered, flag, m)
		}
		if err := h.stopGathering(); err != nil {
			return err
		}
	}
	if more && h.r.ProtoMajor == 1 {
		h.on.HoldWrites(h.s.budget.Pool)
	}
	err := h.writeFrame(h.w, flag, m)
	if err == nil && !more {
		err = h.flush()
	}
	return err
}

// stopGathering sends what was gathered.
func (h *httpDown) stopGathering() error {
	h.answer.gathering = false
	h.w.WriteHeader(http.StatusOK)
	_, err := h.answer.gathered.WriteTo(h.w)
	return err
}

// flush sends all that was written.
func (h *httpDown) flush() error {
	err := h.rc.Flush()
	if err == nil && h.r.ProtoMajor == 1 {
		err = h.on.SendHeld()
	}
	return err
}

// writeFrame writes one frame; as text it is one chunk of base64, padded.
func (h *httpDown) writeFrame(w io.Writer, flag byte, m mem.BufferSlice) error {
	var text io.WriteCloser
	if h.textOut {
		text = base64.NewEncoder(base64.StdEncoding, w)
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
	err := h.guard.lastWrite(func(late bool) error {
		if !late {
			return h.writeEnd(st, trailer)
		}
		if h.r.Context().Err() != nil && isGone(st) {
			return errEnded
		}
		_ = h.rc.SetWriteDeadline(time.Now().Add(closeTimeout)) // a foreign ResponseWriter may have none
		err := h.writeEnd(st, trailer)
		_ = h.rc.SetWriteDeadline(time.Time{}) // the connection may go on
		return err
	})
	h.aborted = err != nil
	return err
}

// readRest reads the short body of a call that was refused before anybody read
// it, so that its HTTP/1.1 connection can go on.
func (h *httpDown) readRest() {
	if h.received || h.r.ProtoMajor != 1 || h.source.atEnd.Load() || h.r.ContentLength < 0 || h.r.ContentLength > memory.SmallBytes {
		return
	}
	_ = h.rc.SetReadDeadline(time.Now().Add(edge.UnreadTime)) // a foreign ResponseWriter may have none
	_, _ = io.Copy(io.Discard, h.source)                      // if it fails the connection closes
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
func isGone(st *status.Status) bool { return st.Code() == errGone.Row().Code }

// writeTrailers sets HTTP trailers, which net/http sends when the handler
// returns. Without a header before, it is a Trailers-Only answer: one HEADERS
// frame. gRPC PROTOCOL-HTTP2, "Responses".
func (h *httpDown) writeTrailers(st *status.Status, trailer metadata.MD) {
	fields := codec.Trailers(st, trailer)
	if !h.answer.begun {
		h.w.Header()["Content-Length"] = nil // net/http would add "0", which the client sees as metadata
		h.beginAnswer(fields, false)
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
	if !h.answer.begun {
		h.beginAnswer(codec.Fields(nil), true)
	}
	var w io.Writer = h.w
	if h.answer.gathering {
		w = &h.answer.gathered
	}
	block := codec.AppendHeaderBlock(make([]byte, 0, usualTrailers), codec.BrowserTrailers(st, trailer))
	if err := h.writeFrame(w, codec.FlagTrailers, mem.BufferSlice{mem.SliceBuffer(block)}); err != nil {
		return err
	}
	if h.answer.gathering {
		h.w.Header()["Content-Length"] = []string{strconv.Itoa(h.answer.gathered.Len())}
		if err := h.stopGathering(); err != nil {
			return err
		}
	}
	return h.flush()
}

// usualTrailers is what most calls' trailers fit.
const usualTrailers = 128
