package bridge

import (
	"errors"
	"iter"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// openUnary opens a unary call of the Connect protocol: the bodies are bare messages, and
// the answer's header has the status.
func openUnary(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	u := &unaryStream{answer: unaryAnswer{get: r.Method == http.MethodGet}}
	u.open(w, r, c, &u.answer)
	query, fault := u.readHeader()
	if fault == nil && c.route.bare() != nil {
		fault = c.readTimeout(r.Header["Grpc-Timeout"], codec.ParseTimeout) // as of all messages
	}
	if u.answer.get {
		u.readText(query.Message)
	}
	u.frames.Coding = c.coding
	u.answer.contentType = "application/" + c.subtype
	c.rules.oneReply = true
	c.convertJSON()
	c.rules.byGet = u.answer.get
	return u, fault
}

// A unaryStream is the client's end of a unary call of the Connect protocol.
type unaryStream struct {
	wholeStream
	answer unaryAnswer
}

// Close implements handled.
func (u *unaryStream) Close() {
	u.answer.reply.Free()
	u.wholeStream.Close()
}

// readHeader reads the header and, of a GET, the query.
func (u *unaryStream) readHeader() (query codec.ConnectGet, err error) {
	c, h := u.call, u.r.Header
	c.subtype = "proto"
	if strings.HasSuffix(gate.MediaType(u.r), "json") {
		c.subtype = "json"
	}
	if err := c.readConnectHeader(h); err != nil {
		return query, err
	}
	if !u.answer.get {
		return query, c.readCodings(h["Content-Encoding"], h["Accept-Encoding"])
	}
	query, err = codec.ParseConnectGet(u.r.URL.RawQuery)
	if errors.Is(err, codec.ErrConnectEncoding) {
		return query, unimplemented(mistake(http.StatusUnsupportedMediaType, err.Error()), report.ReasonUnsupportedEncoding, "", nil)
	}
	if err != nil {
		return query, report.New(report.ReasonBadRequest, err.Error())
	}
	c.subtype = query.Encoding
	return query, c.readCodings([]string{query.Compression}, h["Accept-Encoding"])
}

// A unaryAnswer is the encoder of unary calls. All of the answer waits for the call's
// end, since the header has the status. https://connectrpc.com/docs/protocol#unary-response
type unaryAnswer struct {
	contentType string // of the reply
	get         bool
	head        metadata.MD
	reply       mem.BufferSlice
	packed      bool // the reply is compressed
}

// header implements encoder.
func (e *unaryAnswer) header(_ *httpStream, md metadata.MD, _ bool) error {
	e.head = md
	return nil
}

// message implements encoder. The pump passes one message. It counts with the call until
// the call has ended.
func (e *unaryAnswer) message(h *httpStream, m mem.BufferSlice, _ bool) error {
	if h.call.packReplies && m.Len() > 0 {
		packed, err := h.call.pack(m)
		if err != nil {
			return err
		}
		m, e.packed = packed, true
	}
	if h.call.convert == nil || e.packed { // else it counts already
		h.call.held.Add(memory.ClassOf(m.Len()), m.Len())
	}
	e.reply = m
	return nil
}

// end implements encoder.
func (e *unaryAnswer) end(h *httpStream, st *status.Status, trailer metadata.MD) error {
	code, contentType, body := http.StatusOK, e.contentType, e.reply
	if st.Code() != codes.OK {
		var failure []byte
		code, failure = codec.ConnectError(st)
		contentType, body = "application/json", mem.BufferSlice{mem.SliceBuffer(failure)}
	}
	if f := h.call.httpFault(); f != nil {
		code = f.HTTP
	}
	h.call.challenge(h.w.Header(), code)
	if code == http.StatusMethodNotAllowed { // as in connectRefusal
		contentType, body = textPlain, mem.BufferSlice{mem.SliceBuffer("culvert: " + st.Message() + "\n")}
	}
	if e.packed && st.Code() == codes.OK {
		h.w.Header()["Content-Encoding"] = gzipped // before, so that a page may read it
	}
	header := e.makeHeader(h, e.fields(st, trailer))
	header["Content-Type"] = []string{contentType}
	return h.whole(code, body)
}

// fields yields the metadata: the header's, and the trailer's with a prefix.
func (e *unaryAnswer) fields(st *status.Status, trailer metadata.MD) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for name, value := range codec.Fields(e.head) {
			if !yield(name, value) {
				return
			}
		}
		for name, value := range codec.ConnectTrailers(st, trailer) {
			if !yield("trailer-"+name, value) {
				return
			}
		}
	}
}

// makeHeader makes the answer's header. Caches may keep the answer to a GET as the
// backend's cache-control says; culvert adds none.
func (e *unaryAnswer) makeHeader(h *httpStream, fields iter.Seq2[string, string]) http.Header {
	var header http.Header
	if e.get {
		header = h.makeHeader(fields)
		if h.origin.Origin == "" {
			gate.VaryAnswer(header)
		}
		header.Add("Vary", "Accept-Encoding")
		header["X-Content-Type-Options"] = noSniffing
	} else {
		header = h.makeWebHeader(fields)
	}
	if h.call.codingRefused() {
		header["Accept-Encoding"] = canRead
	}
	return header
}
