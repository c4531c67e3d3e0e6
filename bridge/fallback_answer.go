package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/fallback"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// This file has the answer to a request to the web server: the web server's, or
// culvert's own.

// maxInformed bounds the informational answers to one request. net/http bounds each of
// them, but not their number.
const maxInformed = 32

// Header implements http.ResponseWriter. The answer's header is made apart: culvert's own
// fields in it must survive informational answers.
func (x *fallbackExchange) Header() http.Header {
	if x.info.Status != 0 {
		return x.w.Header() // for trailers
	}
	return x.header
}

// WriteHeader implements http.ResponseWriter.
func (x *fallbackExchange) WriteHeader(code int) {
	switch {
	case x.info.Status != 0:
		return
	case code < http.StatusOK:
		x.inform(code)
		return
	}
	h := x.w.Header()
	delete(x.header, "Culvert-Reason") // culvert's own answers have it
	maps.Copy(h, x.header)
	if h["X-Request-Id"] == nil {
		h["X-Request-Id"] = []string{x.info.ID}
	}
	x.info.Status = code
	// Behind an upgrade come no requests, also if the web server has refused it.
	x.a.on.CloseBehindCall(h, x.r, !x.body.AtEnd.Load() || gate.IsUpgrade(x.r))
	x.w.WriteHeader(code)
}

// inform passes an informational answer on, if the client knows them. The HTTP server
// itself answers "Expect: 100-continue", when the body is read. RFC 9110 §15.2.
func (x *fallbackExchange) inform(code int) {
	if code == http.StatusContinue || !x.r.ProtoAtLeast(1, 1) {
		return
	}
	if x.informed++; x.informed > maxInformed {
		x.cancel(fallback.Fault(fmt.Errorf("more than %d informational answers", maxInformed)))
		return
	}
	h := x.w.Header()
	announced := h["Connection"]
	delete(h, "Connection")
	maps.Copy(h, x.header)
	x.w.WriteHeader(code)
	for name := range x.header {
		delete(h, name)
	}
	if announced != nil {
		h["Connection"] = announced
	}
}

// Write implements http.ResponseWriter.
func (x *fallbackExchange) Write(b []byte) (int, error) {
	if x.info.Status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	n := 0
	err := x.sending(func() (err error) {
		n, err = x.w.Write(b)
		return err
	})
	x.out.bytes.Add(int64(n))
	return n, err
}

// FlushError sends what was written.
func (x *fallbackExchange) FlushError() error { return x.sending(x.rc.Flush) }

// sending runs a write to the client under the watch for slow clients.
func (x *fallbackExchange) sending(write func() error) error {
	p := &x.progress
	p.BeginSend()
	defer p.EndSend()
	err := write()
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		x.lost.Store(true)
	}
	return err
}

// Fail implements fallback.Exchange: culvert itself answers.
func (x *fallbackExchange) Fail(err error) {
	x.Broke(err)
	f := x.fault
	if f.Reason == report.ReasonClientGone || f.Reason == report.ReasonSlowConsumer {
		x.aborted = true // it takes no answer
		return
	}
	if f.Hint != "" {
		x.a.s.refusals.Note(f, x.a.peer.Addr)
	}
	shown := *f
	switch {
	case f.Cause == nil:
	case x.a.policy.detailedErrors:
		shown.Text = f.Error()
	default:
		shown.Text += " (the log has the cause under the id " + x.info.ID + ")"
	}
	shown.Header = []string{"X-Request-Id", x.info.ID}
	x.info.Status = f.HTTPStatus()
	_ = x.rc.SetWriteDeadline(time.Now().Add(closeTimeout)) // a foreign ResponseWriter may have none
	x.a.answer(x.w, x.r, &shown)
	if x.r.ProtoMajor == 1 { // else the stream's own deadline bounds the end
		_ = x.rc.Flush() // the client may be gone
		_ = x.rc.SetWriteDeadline(time.Time{})
	}
}

// Switch implements fallback.Exchange.
func (x *fallbackExchange) Switch(answer http.Header) (fallback.Conn, error) {
	closed := x.a.on.Taken()
	conn, rw, err := x.rc.Hijack()
	if err != nil {
		return nil, err
	}
	if answer["X-Request-Id"] == nil {
		answer["X-Request-Id"] = []string{x.info.ID}
	}
	x.info.WebSocket, x.info.Status = true, http.StatusSwitchingProtocols
	// net/http's reader would end the context at the client's end.
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	return &fallback.Client{
		Conn: conn, Unread: bytes.Clone(unread), Closed: closed,
		Of: &x.progress, In: &x.in.bytes, Out: &x.out.bytes, Lost: &x.lost,
	}, nil
}
