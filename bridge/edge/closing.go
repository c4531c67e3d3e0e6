package edge

import (
	"io"
	"net/http"
	"time"
)

// This file decides when an HTTP/1.1 connection has to close behind an answer: bytes
// that may be something else must not be served as the next request. closes decides,
// and announceClose writes it into the answer's header. Code that answers a call,
// refuses a request or refuses an upgrade asks here.
//
// One answer can't ask: tellRefusal writes to a connection that is refused before an
// HTTP server has it, so there is no request and no header. It always closes.

// A stage is how far the answer to a request has come.
type stage int

const (
	stageBegun   stage = iota // nobody has looked at the request yet
	stageRead                 // the header of a call's answer is made; the request's body was read
	stageUnread               // likewise; some of the body may be left, or its reading was broken off
	stageRefused              // the request is refused
)

// closes decides whether the connection closes behind the answer to a request. A
// rest of a body would be served as the next request, and a connection whose
// context has ended can serve none.
func (c *Conn) closes(r *http.Request, s stage) bool {
	if r.ProtoMajor != 1 { // bridge/h2 looks at ages by itself, net/http sends a GOAWAY for the header
		return s == stageBegun && c.edge.o.StandardHTTP2 && c.life.old()
	}
	switch s {
	case stageBegun:
		return ambiguous(r) || c.life.old()
	case stageRead:
		return c.edge.o.Draining() || c.life.old()
	default:
		return true
	}
}

// ambiguous reports whether another hop may take another place for the end of an
// HTTP/1.1 request. net/http drops a Content-Length that stands beside chunks, and
// Transfer-Encoding of HTTP/1.0, so culvert can't know. RFC 9112 §6.1.
func ambiguous(r *http.Request) bool {
	return r.ProtoMinor == 0 || len(r.TransferEncoding) > 0
}

// announceClose writes into an answer's header that the connection closes. An
// Upgrade there has to be named, too, in the second place: net/http closes for
// what comes first. RFC 9110 §7.8.
func announceClose(h http.Header) {
	if h["Upgrade"] != nil {
		h["Connection"] = []string{"close", "Upgrade"}
	} else {
		h["Connection"] = []string{"close"}
	}
}

// BeginRequest has to be called first for each request. It counts the
// connection as one that speaks the request's HTTP. It announces the end
// of the connection if that is certain by then.
func (c *Conn) BeginRequest(w http.ResponseWriter, r *http.Request) {
	c.spoke(r)
	switch {
	case r.ProtoMajor == 1:
		c.life.enter(phaseServing)
	case c.edge.o.StandardHTTP2:
		c.life.enter(phaseOver)
	}
	if c.closes(r, stageBegun) {
		announceClose(w.Header()) // an upgrade replaces it
	}
}

// CloseBehindCall lets an HTTP/1.1 connection close behind a call's answer if it has
// to. h is the answer's header, which is made now. unread reports whether some of
// the request's body may be left, or its reading was broken off.
func (c *Conn) CloseBehindCall(h http.Header, r *http.Request, unread bool) {
	s := stageRead
	if unread {
		s = stageUnread
	}
	if c.closes(r, s) {
		announceClose(h)
	}
}

// CloseBehindRefusal lets an HTTP/1.1 connection close behind the answer to a
// refused request, so that nothing behind that is taken for another one. It reports
// whether the connection does. It is called when the answer's header is made.
func (c *Conn) CloseBehindRefusal(w http.ResponseWriter, r *http.Request) bool {
	if !c.closes(r, stageRefused) {
		return false
	}
	announceClose(w.Header())
	c.LeaveBody(w, r)
	return true
}

// unreadTime is how long the rest of a body may take that nobody needs, on HTTP/1.1.
const unreadTime = 250 * time.Millisecond

// unreadBytes is how large a body may be that is read so that its connection can go
// on.
const unreadBytes = 64 << 10

// FinishBody reads the short body of a call that was refused before anybody read
// it, so that its HTTP/1.1 connection can go on. A body that doesn't come in time, or
// is long, is left.
func (c *Conn) FinishBody(w http.ResponseWriter, r *http.Request, body io.Reader) {
	if r.ProtoMajor != 1 || r.ContentLength < 0 || r.ContentLength > unreadBytes {
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(unreadTime)) // a foreign ResponseWriter may have none
	if _, err := io.Copy(io.Discard, body); err == nil {
		_ = rc.SetReadDeadline(time.Time{}) // likewise
	}
}

// LeaveBody prepares the end of an HTTP/1.1 connection whose request's body is
// not read to its end: net/http reads on for a moment only, and the connection
// lingers, so that a client that is still sending gets the answer and not a
// reset.
func (c *Conn) LeaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadTime)) // a foreign ResponseWriter may have none
	c.lingerOn()
}
