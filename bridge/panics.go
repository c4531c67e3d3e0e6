package bridge

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"net/http"
)

// A panic ends the call that it happens in, and nothing else. Each part of a call's way
// catches its own, so that the parts behind it run as after any error: the client is told
// INTERNAL, the upstream's stream ends, the call's goroutines are waited for, and what the
// call holds is given back.

// cutting is where the end of a call's context interrupts what waits for the client.
const cutting = "cutting a client off"

// catch ends a panic in a part of the call's way, and puts it into err. It must be deferred
// itself.
func (c *call) catch(where string, err *error) {
	if v := recover(); v != nil {
		*err = c.s.panics.Note(where, v, c.facts()...)
	}
}

// catchRest ends a panic that no other catch of the call has seen. It must be deferred
// itself, behind end.
func (c *call) catchRest() {
	if v := recover(); v != nil {
		f := c.s.panics.Note("a call", v, c.facts()...)
		c.abort(f)
		c.cancel(f)
		c.others.Wait()
	}
}

// Panicked ends a call whose request could not be freed. It implements the Call of its
// memory.Entry.
func (c *call) Panicked(v any) {
	c.cancel(c.registry.panics.Note("freeing a message", v, c.facts()...))
}

// facts are those of a call in a line of the log.
func (c *call) facts() []slog.Attr {
	return []slog.Attr{
		slog.String("call_id", c.info.ID),
		slog.String("transport", c.info.Transport),
		slog.String("method", c.info.Method),
		slog.String("peer", c.info.Peer),
	}
}

// caught answers a request whose handler has panicked with v, if nothing was answered yet,
// and otherwise cuts it off. a has what is known of it; nil: nothing.
func (s *Server) caught(v any, w http.ResponseWriter, r *http.Request, a *arrival, t *transport, hold *policyHold) {
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it with ==, too
		panic(v)
	}
	var facts []slog.Attr
	if a != nil {
		facts = append(facts, slog.String("peer", a.peer.Addr), slog.String("method", a.Method))
	}
	f := s.panics.Note("a request", v, facts...)
	switch {
	case a == nil || a.served:
		panic(http.ErrAbortHandler) // RST_STREAM, or a cut connection
	case t == nil || !t.carriesCalls():
		a.answer(w, r, f)
	default: // the call's own protocol tells it
		a.served, a.refused = true, f
		a.peer.Transport = a.transportName(t)
		a.serveCall(w, r, t, hold)
	}
}

// newHTTPLog returns the log of an http.Server. Its lines about clients are for
// debugging, and those about panics that it has recovered are for the operator.
func newHTTPLog(s *Server) *log.Logger {
	return log.New(httpLog{s, slog.NewLogLogger(s.log.Handler(), slog.LevelDebug).Writer()}, "", 0)
}

type httpLog struct {
	s     *Server
	debug io.Writer
}

// panicPrefixes begin a panic's lines of net/http and of its HTTP/2: the peer, the value,
// and the stack in the lines below.
var panicPrefixes = [...]string{"http: panic serving ", "http2: panic serving "}

func (l httpLog) Write(p []byte) (int, error) {
	for _, prefix := range panicPrefixes {
		if told, ok := bytes.CutPrefix(p, []byte(prefix)); ok {
			what, stack, _ := bytes.Cut(told, []byte("\n"))
			peer, value, _ := bytes.Cut(what, []byte(": "))
			l.s.panics.Tell("a connection", string(value), string(stack), slog.String("peer", string(peer)))
			return len(p), nil
		}
	}
	return l.debug.Write(p)
}
