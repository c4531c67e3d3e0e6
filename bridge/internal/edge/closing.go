package edge

import (
	"io"
	"net/http"
	"time"
)

// This file decides when an HTTP/1.1 connection must close after an answer: bytes that
// may be something else must not be served as the next request. closes decides, and
// announceClose writes the decision into the answer's header. Code that answers a call,
// refuses a request or refuses an upgrade asks here.
//
// One answer can't ask: tellRefusal writes to a connection that is refused before an
// HTTP server has it, so there is no request and no header. It always closes.

// A stage is how far the answer to a request has come.
type stage int

const (
	stageBegun   stage = iota // nothing has judged the request yet
	stageRead                 // the header of a call's answer is made; the request's body was read
	stageUnread               // that header is made; some of the body may be left, or its reading was interrupted
	stageRefused              // the request is refused
)

// closes decides whether the connection closes after the answer to a request. The rest
// of a body would be served as the next request, and a connection whose context has
// ended can serve none.
func (c *Conn) closes(r *http.Request, s stage) bool {
	if r.ProtoMajor != 1 { // bridge/internal/h2 looks at ages by itself, net/http sends a GOAWAY for the header
		return s == stageBegun && c.edge.o.StandardHTTP2 && (c.life.old() || c.life.leaves(c.edge.left.Load()))
	}
	switch s {
	case stageBegun:
		// Another hop may see the end of an HTTP/1.1 request in another place: net/http drops
		// a Content-Length beside chunks, and Transfer-Encoding of HTTP/1.0. RFC 9112 §6.1.
		return r.ProtoMinor == 0 || len(r.TransferEncoding) > 0 || c.life.old()
	case stageRead:
		return c.edge.o.Leaving() || c.life.old()
	default:
		return true
	}
}

// announceClose writes into an answer's header that the connection closes. It must also
// name an Upgrade in the header, in second place: net/http looks for "close" in the
// first value only. RFC 9110 §7.8.
func announceClose(h http.Header) {
	if h["Upgrade"] != nil {
		h["Connection"] = []string{"close", "Upgrade"}
	} else {
		h["Connection"] = []string{"close"}
	}
}

// BeginRequest must be called first for each request. It counts the connection under
// the request's version of HTTP. It announces the end of the connection if that is
// already certain.
func (c *Conn) BeginRequest(w http.ResponseWriter, r *http.Request) {
	shown := kindHTTP1
	if r.ProtoMajor == 2 {
		shown = kindHTTP2
	}
	c.became(shown)
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

// CloseBehindCall announces in h, the header of a call's answer, that an HTTP/1.1
// connection closes, if it must. unread reports whether some of the request's body may
// be left, or its reading was interrupted.
func (c *Conn) CloseBehindCall(h http.Header, r *http.Request, unread bool) {
	s := stageRead
	if unread {
		s = stageUnread
	}
	if c.closes(r, s) {
		announceClose(h)
	}
}

// CloseBehindRefusal announces that an HTTP/1.1 connection closes after the answer to a
// refused request, so that no later bytes count as another request. It reports whether
// the connection closes. It is called when the answer's header is made.
func (c *Conn) CloseBehindRefusal(w http.ResponseWriter, r *http.Request) bool {
	if !c.closes(r, stageRefused) {
		return false
	}
	announceClose(w.Header())
	c.LeaveBody(w, r)
	return true
}

// unreadTime bounds the reading of the rest of a body that nobody needs, on HTTP/1.1.
const unreadTime = 250 * time.Millisecond

// unreadBytes bounds the bodies that are read so that their connection can continue.
const unreadBytes = 64 << 10

// FinishBody reads the short body of a call that was refused before its body was read,
// so that its HTTP/1.1 connection can continue. It leaves a body that is late or long.
func (c *Conn) FinishBody(w http.ResponseWriter, r *http.Request, body io.Reader) {
	if r.ProtoMajor != 1 || r.ContentLength < 0 || r.ContentLength > unreadBytes {
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(unreadTime)) // a foreign ResponseWriter may have none
	if _, err := io.Copy(io.Discard, body); err == nil {
		_ = rc.SetReadDeadline(time.Time{}) // a foreign ResponseWriter may have none
	}
}

// LeaveBody prepares the end of an HTTP/1.1 connection whose request's body is not read
// to its end: net/http reads on for a moment only, and the connection lingers, so that
// a client that is still sending gets the answer and not a reset.
func (c *Conn) LeaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadTime)) // a foreign ResponseWriter may have none
	c.lingerOn()
}
