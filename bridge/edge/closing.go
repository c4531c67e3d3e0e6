package edge

import (
	"net/http"
	"time"
)

// This file decides when an HTTP/1.1 connection has to close behind an answer: bytes
// that may be something else must not be served as the next request. Code that
// answers a call or refuses a request asks here. Package websocket closes behind each
// upgrade that it refuses.

// BeginRequest has to be called first for each request. It counts the
// connection as one that speaks the request's HTTP. It announces the end
// of the connection if that is certain by then: HTTP/1.1 serves no further
// request, and net/http's HTTP/2 sends a GOAWAY. bridge/h2 looks at ages by
// itself.
func (c *Conn) BeginRequest(w http.ResponseWriter, r *http.Request) {
	c.spoke(r)
	switch {
	case r.ProtoMajor == 1:
		c.life.enter(phaseServing)
	case c.edge.o.StandardHTTP2:
		c.life.enter(phaseOver)
	default:
		return
	}
	if ambiguous(r) || c.life.old() {
		w.Header().Set("Connection", "close") // an upgrade replaces it
	}
}

// ambiguous reports whether another hop may take another place for the end of the
// request. net/http drops a Content-Length that stands beside chunks, and
// Transfer-Encoding of HTTP/1.0, so culvert can't know. RFC 9112 §6.1.
func ambiguous(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0)
}

// MustClose reports whether the connection has to close behind a call's answer
// whose header is made now. unread reports whether some of the request's body may
// be left, or its reading was broken off: the rest would be served as the next
// request, and a connection whose context has ended can serve none.
func (c *Conn) MustClose(r *http.Request, unread bool) bool {
	return r.ProtoMajor == 1 && (unread || c.edge.o.Draining() || c.life.old())
}

// CloseBehind lets an HTTP/1.1 connection close behind the answer to a refused
// request, so that nothing behind that is taken for another one. It reports
// whether the connection does.
func (c *Conn) CloseBehind(w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor != 1 {
		return false
	}
	w.Header().Set("Connection", "close")
	c.LeaveBody(w, r)
	return true
}

// UnreadTime is how long net/http may go on reading the body of an HTTP/1.1
// request that is answered.
const UnreadTime = 250 * time.Millisecond

// LeaveBody prepares the end of an HTTP/1.1 connection whose request's body is
// not read to its end: net/http reads on for a moment only, and the connection
// lingers, so that a client that is still sending gets the answer and not a
// reset.
func (c *Conn) LeaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(UnreadTime)) // a foreign ResponseWriter may have none
	c.lingerOn()
}
