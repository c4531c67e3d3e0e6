package bridge

import (
	"bytes"
	"context"
	"iter"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/binding"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// This file serves the framings in JSON that are plain HTTP: one request, and replies that
// are events or lines. A POST of the framing json is a unary call as in the Connect
// protocol (openUnary).

// plainMistake returns why a plain HTTP request at a path for JSON isn't a call, or nil.
func plainMistake(r *http.Request, m *binding.Route) *report.Fault {
	get := m.OverHTTP()
	switch {
	case gate.IsUpgrade(r):
		return likely(http.StatusBadRequest, "this path takes no WebSockets (message.framing is "+m.Framing+")")
	case r.Method == http.MethodPost && gate.MediaType(r) == "application/json", r.Method == http.MethodGet && get && r.ContentLength <= 0:
		return nil
	case r.Method == http.MethodPost:
		return likely(http.StatusUnsupportedMediaType, "this path takes messages in JSON: send the content type application/json", "Accept-Post", "application/json")
	case r.Method == http.MethodGet && get:
		return likely(http.StatusUnsupportedMediaType, "a GET request of this path has no body: send a POST, or the message in the query")
	case get:
		return likely(http.StatusMethodNotAllowed, "this path takes GET and POST", "Allow", "GET, POST")
	case r.Method == http.MethodGet:
		return noUpgrade(r, "this path takes WebSockets and POST")
	default:
		return likely(http.StatusMethodNotAllowed, "this path takes WebSockets and POST", "Allow", "GET, POST")
	}
}

// openLines opens a call whose replies are events or lines.
func openLines(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	fault := c.readTimeout(r.Header["Grpc-Timeout"], codec.ParseTimeout)
	if fault == nil {
		fault = c.readCodings(r.Header["Content-Encoding"], nil)
	}
	l := new(linesStream)
	l.answer.route = c.route.bare()
	l.open(w, r, c, &l.answer)
	l.beats.h, l.beats.in = &l.httpStream, l
	c.beats = &l.beats
	c.convertJSON()
	if r.Method == http.MethodGet {
		request, err := codec.ParseMessageQuery(r.URL.RawQuery)
		if err != nil && fault == nil {
			fault = report.New(report.ReasonBadRequest, err.Error())
		}
		l.readText([]byte(request))
	}
	return l, fault
}

// A linesStream is the client's end of a call whose replies are events or lines.
type linesStream struct {
	wholeStream
	answer linesAnswer
	beats  beats
}

// A linesAnswer is the encoder of events and of lines.
type linesAnswer struct{ route *binding.Route }

// header implements encoder. Behind a heart-beat it is too late for metadata.
func (e *linesAnswer) header(h *httpStream, md metadata.MD, more bool) error {
	if h.out.begun {
		return nil
	}
	e.begin(h, codec.Fields(md), more)
	return h.flushUnless(more)
}

func (e *linesAnswer) begin(h *httpStream, fields iter.Seq2[string, string], more bool) {
	contentType := "application/x-ndjson"
	if e.route.Framing == FramingSSE {
		contentType = "text/event-stream"
	}
	header := h.makeWebHeader(fields)
	header["Content-Type"] = []string{contentType}
	h.begin(http.StatusOK, more)
}

// message implements encoder. JSON text that culvert writes has no line break.
func (e *linesAnswer) message(h *httpStream, m mem.BufferSlice, more bool) error {
	defer m.Free()
	if !h.out.begun {
		e.begin(h, codec.Fields(nil), more)
	}
	before, after := "", "\n"
	if e.route.Framing == FramingSSE {
		before, after = codec.EventID(h.call.convert.LastID)+"data: ", "\n\n"
	}
	w, err := h.room(len(before)+m.Len()+len(after), more)
	if err != nil {
		return err
	}
	pieces := append(append(mem.BufferSlice{mem.SliceBuffer(before)}, m...), mem.SliceBuffer(after))
	for _, b := range pieces {
		if _, err := w.Write(b.ReadOnlyData()); err != nil {
			return err
		}
	}
	h.call.progress.SentPiece()
	return h.flushUnless(more)
}

// end implements encoder. A call that fails before its answer has begun gets an HTTP
// status, as a unary call of the Connect protocol does. Otherwise the last event, or a last
// line, has the status.
func (e *linesAnswer) end(h *httpStream, st *status.Status, _ metadata.MD) error {
	if !h.out.begun && st.Code() != codes.OK {
		return h.fail(st)
	}
	if !h.out.begun {
		e.begin(h, codec.Fields(nil), true)
	}
	last := ""
	switch {
	case e.route.Framing == FramingSSE: // an EventSource connects again unless it is told that this is the end
		last = codec.LastEvent(st)
	case e.route.LastStatus || st.Code() != codes.OK:
		last = string(codec.MessageStatus(st)) + "\n"
	}
	if _, err := h.last().Write([]byte(last)); err != nil {
		return err
	}
	return h.endBody()
}

// fail answers a call that has failed before its answer began, with an HTTP status and
// Connect's JSON.
func (h *httpStream) fail(st *status.Status) error {
	code, body := codec.ConnectError(st)
	if f := h.call.httpFault(); f != nil {
		code = f.HTTP
	}
	h.call.challenge(h.w.Header(), code) // before culvert's own, which win
	header := h.makeWebHeader(codec.Fields(nil))
	header["Content-Type"] = []string{"application/json"}
	if h.call.codingRefused() {
		header["Accept-Encoding"] = canRead
	}
	return h.whole(code, mem.BufferSlice{mem.SliceBuffer(body)})
}

// A wholeStream is the client's end of a call whose body is its only message.
type wholeStream struct {
	bodyStream
	frames message.Unary
}

// open fills in the stream of a request.
func (b *wholeStream) open(w http.ResponseWriter, r *http.Request, c *call, e encoder) {
	b.httpStream.open(w, r, c, e)
	b.frames = message.Unary{Length: r.ContentLength, Coding: c.coding}
	b.body.Body, b.body.Frames = b.source, &b.frames
}

// readText has the message read from the query, not from the body. A coding of the body
// isn't the text's.
func (b *wholeStream) readText(text []byte) {
	b.frames, b.body.Body = message.Unary{Length: int64(len(text))}, bytes.NewReader(text)
}

// Prepare reads the whole request: its only message ends with the body. Then the call
// needs one goroutine, and net/http can notice a disconnect.
func (b *wholeStream) Prepare(ctx context.Context) error {
	b.received = true
	err := b.early(func() error { return b.readFirst(ctx) })
	b.call.Complete = err == nil
	return err
}
