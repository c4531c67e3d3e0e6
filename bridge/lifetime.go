package bridge

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/websocket"
)

// Connections that a backend's restart or one reply to all left alike would
// come to their limits, and come back, at one moment. So each has its own: up
// to a tenth less or more than what was configured.
const spreadParts = 10

// A spread is how far one connection or call is from what was configured, in
// thousandths.
type spread int

func newSpread() spread {
	const most = 1000 / spreadParts
	return spread(rand.IntN(2*most+1) - most) //nolint:gosec // it is no secret
}

// of is 0, which stands for no limit, only of 0.
func (s spread) of(d time.Duration) time.Duration { return d + d/1000*time.Duration(s) }

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

// A life is what is known of a connection, up to why it ended.
type life struct {
	spread spread
	age    time.Time // from when on an HTTP/1.1 connection serves one request more at most; zero: never

	phase   atomic.Int32
	late    atomic.Bool // a read met its deadline since the last request
	left    atomic.Bool // the client has closed or reset the connection
	settled atomic.Bool // ended is final
	heard   atomic.Bool // the client has sent a byte

	mu    sync.Mutex
	ended string
}

// begin is called before the connection is served.
func (l *life) begin(limits *Limits) {
	l.spread = newSpread()
	if limits.ConnectionMaxAge > 0 {
		l.age = time.Now().Add(l.spread.of(limits.ConnectionMaxAge))
	}
}

// lifeOf returns what is known of a connection, or nil: it was accepted by a
// listener of the caller's own.
func lifeOf(c net.Conn) *life {
	switch c := ownConn(c).(type) {
	case *clientConn:
		return &c.life
	case *tunnelConn:
		return &c.life
	}
	return nil
}

// ownConn is the clientConn or tunnelConn below a connection that the HTTP
// server has, or nil in an http.Server that has others.
func ownConn(c net.Conn) net.Conn {
	for {
		switch c.(type) {
		case *clientConn, *tunnelConn:
			return c
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = w.NetConn()
	}
}

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

// noteRead takes note of a read that failed.
func (l *life) noteRead(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.late.Store(true)
	} else if !errors.Is(err, net.ErrClosed) {
		l.left.Store(true)
	}
}

// old holds for an HTTP/1.1 connection that has served for long enough.
func (l *life) old() bool { return l != nil && !l.age.IsZero() && !time.Now().Before(l.age) }

// deadline is when a wait of net/http ends. It bounds first how long a
// connection is idle: that is each one's own time, and no later than its age.
// Then it bounds the header that has begun, or nothing.
func (l *life) deadline(t time.Time) time.Time {
	if l.phase.CompareAndSwap(int32(phaseWaiting), int32(phaseReading)) ||
		!l.phase.CompareAndSwap(int32(phaseIdle), int32(phaseWaiting)) || t.IsZero() {
		return t
	}
	now := time.Now()
	t = now.Add(l.spread.of(t.Sub(now)))
	if l.age.After(now) && l.age.Before(t) {
		t = l.age
	}
	return t
}

// end notes why the connection is about to end, unless that is known.
func (l *life) end(why string) {
	if l == nil || why == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == "" {
		l.ended = why
	}
}

// settle is end for the HTTP/2 server, which knows best.
func (l *life) settle(why string) {
	l.end(why)
	if l != nil {
		l.settled.Store(true)
	}
}

// why says why the connection ended, once it has: what was noted, and else
// what net/http must have had for a reason.
func (l *life) why(draining bool) string {
	if l == nil {
		return report.EndedOrderly
	}
	l.mu.Lock()
	ended := l.ended
	l.mu.Unlock()
	late, left := l.late.Load(), l.left.Load()
	switch p := phase(l.phase.Load()); {
	case ended != report.EndedOrderly || l.settled.Load():
		return ended
	case draining:
		return report.EndedShutdown
	case p == phaseWaiting && late && l.old():
		return report.EndedAge
	case p == phaseWaiting && late:
		return report.EndedIdle
	case p == phaseServing && !left && l.old():
		return report.EndedAge
	case (p == phaseFresh || p == phaseReading) && late:
		return report.EndedSlow
	case (p == phaseFresh || p == phaseReading) && !left:
		return report.EndedProtocol // it was closed because of what had come
	}
	return report.EndedOrderly
}

// endedAs returns what end has noted.
func (l *life) endedAs() string {
	if l == nil {
		return report.EndedOrderly
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// closeCode is what the WebSocket under a tunnel is closed with when its
// connection ended so, if there is something to be said. RFC 6455 §7.4.1.
func closeCode(ended string) (code websocket.StatusCode, told bool) {
	switch ended {
	case report.EndedIdle, report.EndedAge, report.EndedShutdown, report.EndedSilent:
		return websocket.StatusGoingAway, true
	case report.EndedSlow, report.EndedFlood:
		return websocket.StatusPolicyViolation, true
	case report.EndedProtocol:
		return websocket.StatusProtocolError, true
	}
	return 0, false
}

// noteRequest is told of each request before anything else. On a connection that
// is old enough it announces the end: HTTP/1.1 serves no further request, and
// net/http's HTTP/2 sends a GOAWAY. bridge/h2 looks at ages by itself.
func (s *Server) noteRequest(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 && !s.cfg.StandardHTTP2 {
		return
	}
	l := s.connectionOf(r).life
	if r.ProtoMajor == 1 {
		l.enter(phaseServing)
	} else {
		l.enter(phaseOver)
	}
	if l.old() {
		w.Header().Set("Connection", "close") // an upgrade replaces it
	}
}

// noteFault takes note of a call's end that is its connection's, too.
func noteFault(c net.Conn, err error) {
	var f *report.Fault
	if c != nil && errors.As(err, &f) {
		lifeOf(c).end(f.Ends)
	}
}

// SetReadDeadline spreads the ends of idle connections.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	return c.Conn.SetReadDeadline(c.life.deadline(t))
}
