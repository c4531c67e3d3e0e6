package edge

import (
	"net/http"
	"time"
)

// This file infers what net/http is doing on an HTTP/1.1 connection.
//
// net/http promises that ConnState tells of an idle connection before it waits for
// the next request, and that the wait is bounded by IdleTimeout and the header by
// ReadHeaderTimeout. It doesn't promise how. What is taken for granted here: behind
// StateIdle the first call of SetReadDeadline bounds the wait, and the second one
// comes when the next request has begun. So each connection gets an idle time of
// its own, and a connection that was idle is told from one whose header was slow.
// If that changes, TestEndsOfConnections fails ("idle", "a slow header behind a
// request"), and TestIdleConnectionsEndApart.

// A phase is what an HTTP/1.1 connection is in.
type phase int32

const (
	phaseFresh   phase = iota // nothing was served on it
	phaseReading              // the header of a request has begun
	phaseServing
	phaseIdle    // between requests
	phaseWaiting // likewise, and the wait is bounded
	phaseOver    // it is a WebSocket, or HTTP/2 of net/http, which doesn't tell why it ends a connection
)

func (l *life) enter(p phase) {
	if l == nil {
		return
	}
	if p != phaseReading { // which may be told once it is over
		l.late.Store(false)
	}
	l.phase.Store(int32(p))
}

// enterState is enter for what net/http tells of a connection. It calls one
// active that has begun a request; the handler knows whether there is one.
func (l *life) enterState(state http.ConnState) {
	switch state {
	case http.StateActive:
		l.enter(phaseReading)
	case http.StateIdle:
		l.enter(phaseIdle)
	case http.StateHijacked:
		l.enter(phaseOver)
	case http.StateNew, http.StateClosed:
	}
}

// SetReadDeadline spreads the ends of idle connections.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	return c.Conn.SetReadDeadline(c.life.deadline(t))
}

// deadline is when a wait of net/http ends. It bounds first how long a
// connection is idle: that is each one's own time, and no later than its age.
// Then it bounds the header that has begun, or nothing.
func (l *life) deadline(t time.Time) time.Time {
	if l.phase.CompareAndSwap(int32(phaseWaiting), int32(phaseReading)) ||
		!l.phase.CompareAndSwap(int32(phaseIdle), int32(phaseWaiting)) || t.IsZero() {
		return t
	}
	now := time.Now()
	t = now.Add(l.spread.Of(t.Sub(now)))
	if l.age.After(now) && l.age.Before(t) {
		t = l.age
	}
	return t
}
