package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// response is the http.ResponseWriter of a request. As with net/http, its handler's
// goroutine and those that it waits for use it one at a time. Only the deadlines may be
// set at the same time.
type response struct {
	st      *stream
	header  http.Header
	status  int        // 0: no header was written
	fields  *fieldList // the header at that time; nil once it is sent
	sent    bool
	ended   bool
	length  int64    // Content-Length; -1: none
	written int64    // bytes of the body
	trailer []string // names that the header announced
	kept    *chunk   // written and not sent; nil: nothing
	more    bool     // something was sent and not flushed
}

var (
	_ http.Flusher    = (*response)(nil)
	_ io.StringWriter = (*response)(nil)
)

// maxKept is how much of a body waits for Flush.
const maxKept = 4 << 10

// Header returns the header, and after WriteHeader the trailers.
func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader takes the header as it is now. The header leaves with the first of these:
// Flush, much of a body, the handler's end.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || w.ended {
		return
	}
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http does
	}
	if status < 200 {
		w.inform(status)
		return
	}
	w.status = status
	w.fields = newFields()
	w.takeHeader(status)
}

// inform sends an informational header. RFC 9110 §15.2.
func (w *response) inform(status int) {
	list := newFields()
	defer list.free()
	list.addHeader(status, w.header)
	c := w.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = w.st.put(pending{fields: list.fields}) // the next write returns the error
	c.releaseToFlush()
}

func (w *response) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errHandlerEnded
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.written+int64(len(p)) > w.length {
		return 0, errTooMuch
	}
	w.written += int64(len(p))
	if w.st.req.Method == http.MethodHead || w.keep(p) {
		return len(p), nil
	}
	if err := w.send(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString is Write.
func (w *response) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// keep holds small writes back: a message and its prefix become one frame.
func (w *response) keep(p []byte) bool {
	have := 0
	if w.kept != nil {
		have = w.kept.w
	}
	if have+len(p) > maxKept {
		return false
	}
	if w.kept == nil || len(w.kept.b) < have+len(p) {
		larger := newChunk(have + len(p))
		if w.kept != nil {
			larger.w = copy(larger.b, w.kept.b[:have])
			w.kept.free()
		}
		w.kept = larger
	}
	w.kept.w += copy(w.kept.b[have:], p)
	return true
}

// Flush is FlushError without the error.
func (w *response) Flush() { _ = w.FlushError() } // who wants it calls FlushError

// FlushError sends the written data. It waits until the connection has room for the
// data and the client's windows have opened, not until the data is on its way.
func (w *response) FlushError() error {
	if w.ended {
		return errHandlerEnded
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.send(nil, true)
}

// Settle is like Flush, but the data leaves with the next flush or with the end of the answer.
// It returns when the client's windows let the data through. With end, nothing but the end of
// the answer follows, and Settle returns when the connection has room for that, too: so the
// handler waits for a slow client here, and not behind its return, unless it has more than 1 KiB
// of trailers. served is false if w isn't this package's.
func Settle(w http.ResponseWriter, end bool) (served bool, err error) {
	of, ok := w.(*response)
	if !ok {
		return false, nil
	}
	return true, of.settle(end)
}

func (w *response) settle(end bool) error {
	if w.ended {
		return errHandlerEnded
	}
	if w.kept != nil {
		if err := w.send(nil, false); err != nil {
			return err
		}
	}
	if !end {
		return nil
	}
	return w.st.send(pending{settle: true}, false)
}

// Serves reports whether w is this package's.
func Serves(w http.ResponseWriter) bool {
	_, ok := w.(*response)
	return ok
}

// CutWrites is SetWriteDeadline for a handler that has something else to say when a write is
// late. If none of what was written since the last Flush is sent, because the client's window is
// shut, the stream isn't reset: only the write fails, with an error that has
// socket.ErrNothingSent, and what was written is dropped. served is false if w isn't this
// package's.
func CutWrites(w http.ResponseWriter, t time.Time) (served bool) {
	of, ok := w.(*response)
	if ok {
		of.st.setWriteDeadline(t, true)
	}
	return ok
}

// Begin is called before a message of n bytes is written that may leave together with the one
// before. If the client's windows don't let it through, the one before is flushed, so that
// CutWrites can drop this one. w may be another package's.
func Begin(w http.ResponseWriter, n int) error {
	of, ok := w.(*response)
	if !ok || of.kept == nil && !of.more || of.st.letsThrough(len(of.keptData())+n) {
		return nil
	}
	return of.FlushError()
}

// send sends the header, unless it is sent already, and the kept data, and data.
func (w *response) send(data []byte, flush bool) error {
	p := pending{head: w.keptData(), data: data}
	if !w.sent {
		w.completeHeader(p.head, data, false)
		p.fields = w.fields.fields
		p.end = w.st.req.Method == http.MethodHead
	}
	err := w.st.send(p, flush)
	w.more = !flush
	if errors.Is(err, errDropped) {
		w.written -= int64(p.size())
	}
	w.release()
	return err
}

// keptData returns the data that waits for more, or nil.
func (w *response) keptData() []byte {
	if w.kept == nil {
		return nil
	}
	return w.kept.b[:w.kept.w]
}

// release frees the data that has been sent.
func (w *response) release() {
	w.sent = true
	if w.fields != nil {
		w.fields.free()
		w.fields = nil
	}
	if w.kept != nil {
		w.kept.free()
		w.kept = nil
	}
}

// finish sends the rest of the answer and its end. The caller flushes.
func (w *response) finish() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	p := pending{head: w.keptData(), end: true}
	if !w.sent {
		w.completeHeader(p.head, nil, true)
		p.fields = w.fields.fields
	}
	trailers := newFields()
	defer trailers.free()
	head := w.st.req.Method == http.MethodHead
	if !head {
		w.addTrailers(trailers)
	}
	if len(trailers.fields) > 0 {
		p.trailer = trailers.fields
	}
	w.ended = true
	defer w.release()
	if !w.end(p, !head && w.length >= 0 && w.written < w.length && bodyAllowed(w.status)) {
		w.st.waitBehind()
	}
}

// end is finish under the connection's mu. It returns false if the rest must wait.
func (w *response) end(p pending, half bool) (done bool) {
	c := w.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case w.st.localClosed: // the answer to HEAD
		return true
	case half: // it must not pass for a whole one
		w.st.reset(http2.ErrCodeInternal, errHandlerEnded)
		return true
	}
	return w.st.finish(p)
}

// SetReadDeadline sets the deadline of reads of the body.
func (w *response) SetReadDeadline(t time.Time) error {
	w.st.setReadDeadline(t)
	return nil
}

// SetWriteDeadline sets the deadline of the whole answer. The stream is reset if the answer
// waits for the client then, or later.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.st.setWriteDeadline(t, false)
	return nil
}

// EnableFullDuplex changes nothing: HTTP/2 always is.
func (w *response) EnableFullDuplex() error { return nil }

// bodyAllowed reports whether an answer may have content. RFC 9110 §6.4.1.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
