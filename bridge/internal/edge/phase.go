package edge

import (
	"net/http"
	"time"
)

// This file infers what net/http is doing on an HTTP/1.1 connection.
//
// net/http promises that ConnState reports an idle connection before the wait for the
// next request, and that IdleTimeout bounds the wait and ReadHeaderTimeout the header.
// It doesn't promise how. This file relies on the following: after StateIdle the first
// call of SetReadDeadline bounds the wait, and the second one comes when the next
// request has begun. So each connection gets an idle time of its own, and an idle
// connection differs from one with a slow header. If that changes,
// TestEndsOfConnections fails ("idle", "a slow header behind a request"), and
// TestIdleConnectionsEndApart.

// A phase is the phase of an HTTP/1.1 connection.
type phase int32

const (
	phaseFresh   phase = iota // nothing was served on it
	phaseReading              // the header of a request has begun
	phaseServing
	phaseIdle    // between requests
	phaseWaiting // between requests, and the wait is bounded
	phaseOver    // it is a WebSocket, or HTTP/2 of net/http, which doesn't report why it ends a connection
)

func (l *life) enter(p phase) {
	if l == nil {
		return
	}
	if p != phaseReading { // net/http may report this after its end
		l.late.Store(false)
	}
	l.phase.Store(int32(p))
}

// enterState is enter for a state that net/http reports. net/http calls a connection
// active once a request has begun; the handler knows whether there is one.
func (l *life) enterState(state http.ConnState) {
	switch state {
	case http.StateActive:
		l.enter(phaseReading)
	case http.StateIdle:
		l.enter(phaseIdle)
	case http.StateHijacked:
		l.enter(phaseOver)
	}
}

// beginHeader gives the header of the first request its time, from the first byte of the
// connection on. net/http gives it to later requests only: the time of the first one
// begins with the connection, and browsers open connections ahead. net/http also reads
// the first bytes apart, to recognize HTTP/2, and answers 400 to the part of a request
// line that has come when a deadline passes. So a client that sent its first request near
// the end of that time would be refused. Under TLS the first bytes are the handshake's.
func (c *clientConn) beginHeader() {
	if c.on.listening.TLS == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(HandshakeTimeout)) // a closed connection needs none
	}
}
