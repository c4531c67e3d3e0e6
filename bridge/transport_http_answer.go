package bridge

import (
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/internal/buffer"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// An encoder writes an answer in the form of one protocol, with the methods of the
// httpStream. The encoder decides when the header leaves: a protocol with the status in
// the header needs the end of the call first. None of its methods runs beside another.
type encoder interface {
	// header, message and end are SendHeader, Send and Finish of downstream. One
	// that writes something flushes it, unless more is set.
	header(h *httpStream, md metadata.MD, more bool) error
	message(h *httpStream, m mem.BufferSlice, more bool) error
	end(h *httpStream, st *status.Status, trailer metadata.MD) error
}

// An httpAnswer is the part of a call's answer made so far.
type httpAnswer struct {
	begun bool // its header is made

	// An HTTP/1.1 answer whose end is ready is gathered while it is short: it leaves in
	// one piece, with its length and without chunks.
	gathering bool
	code      uint16 // of the gathered answer
	gathered  gathered
}

// gathered is what was gathered, in a buffer of the account's pool.
type gathered struct {
	account *memory.Account
	buf     *[]byte
}

// Write implements io.Writer. It never fails.
func (g *gathered) Write(p []byte) (int, error) {
	g.buf = buffer.WithRoom(g.account.Pool, g.buf, len(p))
	*g.buf = append(*g.buf, p...)
	return len(p), nil
}

// gatherBytes is the most that is gathered of an answer, base64 and trailers aside.
// With an ordinary header it fits net/http's buffer.
const gatherBytes = 2 << 10

// SendHeader implements downstream.
func (h *httpStream) SendHeader(md metadata.MD, more bool) error {
	return h.guard.Write(func() error { return h.encoder.header(h, md, more) })
}

// Send implements downstream. A message that the encoder doesn't get is freed here.
func (h *httpStream) Send(m mem.BufferSlice, more bool) error {
	sent := false
	err := h.guard.Write(func() error {
		sent = true
		h.goesOn()
		return h.encoder.message(h, m, more)
	})
	if !sent {
		m.Free()
	}
	return err
}

// Flush implements downstream.
func (h *httpStream) Flush() error {
	return h.guard.Write(func() error {
		if h.out.gathering {
			if err := h.stopGathering(); err != nil {
				return err
			}
		}
		return h.flush()
	})
}

// makeHeader adds the fields to the answer's header, with those that every answer has.
// It returns the header, for the protocol to add its own.
func (h *httpStream) makeHeader(fields iter.Seq2[string, string]) http.Header {
	header := h.w.Header()
	for name, value := range fields {
		header[name] = append(header[name], value)
	}
	if h.origin.Origin != "" {
		header["Access-Control-Expose-Headers"] = []string{gate.Exposed(header)}
		gate.CORSHeaders(header, h.origin)
		gate.VaryAnswer(header)
	}
	if _, told := header["x-request-id"]; !told { //nolint:staticcheck // metadata is lower case
		header["X-Request-Id"] = []string{h.call.info.ID}
	}
	header["Date"] = nil // else the client sees it as metadata
	h.call.on.CloseBehindCall(header, h.r, h.readCut || !h.source.AtEnd.Load())
	return header
}

// These values are the same in every answer. They are never written to.
var (
	noStore     = []string{"no-store, no-transform"}
	noBuffering = []string{"no"}
	noSniffing  = []string{"nosniff"}
)

// makeWebHeader is makeHeader for clients that read HTTP: it adds the fields that
// caches, buffering proxies and browsers need. A native client would take them for
// metadata, and no cache keeps its answers.
func (h *httpStream) makeWebHeader(fields iter.Seq2[string, string]) http.Header {
	header := h.makeHeader(fields)
	if h.origin.Origin == "" {
		gate.VaryAnswer(header)
	}
	delete(header, "cache-control")
	delete(header, "x-accel-buffering")
	delete(header, "x-content-type-options")
	header["Cache-Control"] = noStore
	header["X-Accel-Buffering"] = noBuffering
	header["X-Content-Type-Options"] = noSniffing
	return header
}

// begin sends the header. With gather, an HTTP/1.1 answer is held back while it is
// short and its end is ready.
func (h *httpStream) begin(code int, gather bool) {
	h.out.begun = true
	if gather && h.r.ProtoMajor == 1 {
		h.out.gathering, h.out.code, h.out.gathered.account = true, uint16(code), h.call.s.account
		return
	}
	h.w.WriteHeader(code)
}

// room returns the writer for the next part of the body, which has this many bytes. If
// no more follows at once, the caller flushes.
func (h *httpStream) room(bytes int, more bool) (io.Writer, error) {
	if h.out.gathering {
		if g := &h.out.gathered; more && buffer.Len(g.buf)+bytes <= gatherBytes {
			g.buf = buffer.WithRoom(g.account.Pool, g.buf, bytes+usualTrailers)
			return g, nil
		}
		if err := h.stopGathering(); err != nil {
			return nil, err
		}
	}
	if h.r.ProtoMajor != 1 {
		return h.w, h2.Begin(h.w, bytes)
	}
	if more {
		h.call.on.HoldWrites(h.call.held.Buffers())
	}
	return h.w, nil
}

// last returns the writer for the last part of the body. endBody follows.
func (h *httpStream) last() io.Writer {
	if h.out.gathering {
		return &h.out.gathered
	}
	return h.w
}

// endBody sends the rest of the body. A gathered body has its length in the header.
func (h *httpStream) endBody() error {
	if h.out.gathering {
		h.w.Header()["Content-Length"] = []string{strconv.Itoa(buffer.Len(h.out.gathered.buf))}
		if err := h.stopGathering(); err != nil {
			return err
		}
	}
	return h.settle(true)
}

// whole sends the header and a whole body, with its length.
func (h *httpStream) whole(code int, body mem.BufferSlice) error {
	if h.out.begun {
		return socket.ErrEnded // nothing can replace the answer that was begun
	}
	h.w.Header()["Content-Length"] = []string{strconv.Itoa(body.Len())}
	h.begin(code, false)
	w, err := h.room(body.Len(), true)
	if err != nil {
		return err
	}
	for _, b := range body {
		if _, err := w.Write(b.ReadOnlyData()); err != nil {
			return err
		}
		h.call.progress.SentPiece()
	}
	return h.settle(true)
}

// trailers sets HTTP trailers, which net/http sends when the handler returns.
func (h *httpStream) trailers(fields iter.Seq2[string, string]) {
	header := h.w.Header()
	for name, value := range fields {
		key := http.TrailerPrefix + name
		header[key] = append(header[key], value)
	}
}

// stopGathering sends the gathered part.
func (h *httpStream) stopGathering() error {
	h.out.gathering = false
	h.w.WriteHeader(int(h.out.code))
	g := &h.out.gathered
	if g.buf == nil {
		return nil
	}
	_, err := h.w.Write(*g.buf) //nolint:gosec,nolintlint // messages, see the content type; gosec sees it in some runs alone
	g.account.Pool.Put(g.buf)
	g.buf = nil
	return err
}

// settle waits until the client's windows let through what was written. With end, nothing but
// the end follows, and settle waits for room for that, too. On culvert's own HTTP/2 all of it
// leaves when the handler returns; elsewhere settle is flush.
func (h *httpStream) settle(end bool) error {
	if served, err := h.settleHTTP2(end); served {
		return err
	}
	return h.flush()
}

// settleHTTP2 is settle on culvert's own HTTP/2. A call that was refused before it was counted
// doesn't wait for its client, since nothing could end it: its stream has a deadline.
func (h *httpStream) settleHTTP2(end bool) (served bool, err error) {
	if h.r.ProtoMajor == 1 {
		return false, nil
	}
	if h.call.held.Total() > 0 {
		return h2.Settle(h.w, end)
	}
	if served = h2.Serves(h.w); served {
		_ = h.rc.SetWriteDeadline(time.Now().Add(closeTimeout)) // h2 has one
	}
	return served, nil
}

// cutWrites sets the time from which no write waits for the client.
func (h *httpStream) cutWrites(t time.Time) {
	if !h2.CutWrites(h.w, t) {
		_ = h.rc.SetWriteDeadline(t) // a foreign ResponseWriter may have none, and a stream that is gone needs none
	}
}

// flushUnless is flush, unless more follows at once.
func (h *httpStream) flushUnless(more bool) error {
	if more {
		return nil
	}
	return h.flush()
}

// flush sends all that was written.
func (h *httpStream) flush() error {
	err := h.rc.Flush()
	if err == nil && h.r.ProtoMajor == 1 {
		err = h.call.on.SendHeld()
	}
	return err
}

// Finish implements downstream. While the call's context lives, it waits for a slow
// reader like any Send. After the context has ended, the client has a moment to accept
// the rest.
func (h *httpStream) Finish(st *status.Status, trailer metadata.MD) error {
	defer h.stopReading()
	if !h.received && !h.source.AtEnd.Load() {
		h.call.on.FinishBody(h.w, h.r, h.source)
	}
	err := h.guard.LastWrite(func(late bool) error {
		h.goesOn()
		if !late {
			return h.encoder.end(h, st, trailer)
		}
		if h.r.Context().Err() != nil && isGone(st) {
			return socket.ErrEnded
		}
		h.writeCut = true
		h.cutWrites(time.Now().Add(h.call.lastMoment()))
		err := h.encoder.end(h, st, trailer)
		if errors.Is(err, socket.ErrNothingSent) && !h.trailing {
			return socket.ErrEnded // another end would wait for the same window
		}
		return err
	})
	if h.writeCut && !h2.Serves(h.w) {
		_ = h.rc.SetWriteDeadline(time.Time{}) // the connection may go on; on HTTP/2 the end may still wait for the writer
	}
	h.aborted = err != nil
	return err
}

// Abort implements downstream: close ends the request so that no client takes the answer
// for whole.
func (h *httpStream) Abort() {
	h.aborted = true
	h.guard.Stop()
	h.stopReading()
}

// isGone reports whether no client is left to receive the status.
func isGone(st *status.Status) bool { return st.Code() == errGone.Row().Code }
