package wire

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/internal/ping"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A backend is suspected once it has sent nothing for silencePatience after culvert
// sent HEADERS or DATA; then culvert sends a PING. Stock servers end a connection at
// the third PING in a row that they consider too early, and forgive the earlier ones
// when they send HEADERS or DATA: grpc-go's handlePing, grpc-java's
// KeepAliveEnforcer, C++'s PingAbusePolicy. One PING in 5 minutes is never too early.
// Of the two early ones here, one may cross the backend's HEADERS or DATA on the way
// and count after them.
const (
	silencePatience = 10 * time.Second
	earlyPings      = 2
)

// MinKeepalive is the shortest interval of backend.keepalive that counts.
const MinKeepalive = 8 * time.Second

// grpc-go reads one of these from a connection that was closed because the backend
// answered no ping: after a suspicion, or for backend.keepalive.
var (
	errBackendSilent = errors.New("culvert: the backend sent nothing, not even the answer to a ping")
	errNotAlive      = errors.New("keepalive ping failed to receive ACK within timeout")
)

// A silence decides when culvert must ping a backend, and when it gives the backend
// up. It has no clock: its owner passes the time.
type silence struct {
	every   time.Duration // backend.keepalive: with streams, the backend is pinged when nothing was read for so long; 0: only on suspicion
	regular bool          // the PING is for that
	timeout time.Duration // for the answer to a ping

	open  int       // streams
	since time.Time // when the first HEADERS or DATA was sent without any read since; zero: something was read
	last  time.Time // when something was read, if every is set

	pings    int // pings since the backend last sent HEADERS or DATA
	lastPing time.Time

	wait     ping.Wait // it runs once the backend was pinged, or will be as soon as the connection takes a PING
	position uint64    // the PING's place in the bytes sent, as acked counts them
}

// A silenceStep is the action that a look asks of its caller.
type silenceStep int

const (
	silenceNothing silenceStep = iota
	silenceAsk                 // send a PING
	silenceGiveUp              // close the connection
)

// sent notes that HEADERS or DATA are being sent.
func (s *silence) sent(now time.Time) {
	if s.since.IsZero() {
		s.since = now
	}
}

// heard notes that the backend sent something. Its HEADERS and DATA forgive
// the pings before them. now counts only if every is set.
func (s *silence) heard(now time.Time, message bool) {
	s.since, s.last = time.Time{}, now
	s.wait.End()
	if message {
		s.pings = 0
	}
}

// pinged notes that a PING was sent.
func (s *silence) pinged(now time.Time) {
	s.pings++
	s.lastPing = now
}

// next returns when to look, or the zero time if there is no reason to.
func (s *silence) next() time.Time {
	switch {
	case s.wait.Running():
		return s.wait.Next()
	case s.open == 0: // nobody waits: the next stream's HEADERS begin it
		return time.Time{}
	}
	due, _ := s.due()
	return due
}

// due returns when a PING may be sent, and whether it is for backend.keepalive. due is zero
// if there is no reason for one.
func (s *silence) due() (due time.Time, regular bool) {
	due = s.suspects()
	if s.every == 0 {
		return due, false
	}
	if quiet := s.last.Add(s.every); due.IsZero() || quiet.Before(due) {
		return quiet, true
	}
	return due, false
}

// suspects returns when the backend may be pinged since it is suspected, or the zero time.
func (s *silence) suspects() time.Time {
	if s.since.IsZero() {
		return time.Time{}
	}
	due := s.since.Add(silencePatience)
	if allowed := s.lastPing.Add(ping.Seldom); s.pings >= earlyPings && allowed.After(due) {
		return allowed
	}
	return due
}

// look decides the next action. acked is how many of the sent bytes the backend's
// kernel has acknowledged. If unread is set, bytes wait to be read.
func (s *silence) look(now time.Time, acked uint64, unread bool) silenceStep {
	next := s.next()
	switch {
	case next.IsZero() || now.Before(next):
		return silenceNothing
	case !s.wait.Running():
		_, s.regular = s.due()
		s.position = ping.Unsent
		s.wait.Begin(now, s.timeout, acked)
		return silenceAsk
	case s.wait.Look(now, s.position, acked, unread):
		return silenceGiveUp
	}
	return silenceNothing
}

// A silenceWatch is the silence of one connection with its clock: it pings the
// backend and gives it up.
type silenceWatch struct {
	conn   net.Conn
	asks   func()                // makes the connection send a PING, if the watch still wants one then
	wake   chan struct{}         // one element: there is a reason to look
	silent atomic.Pointer[error] // the connection was closed because of it; nil: it wasn't

	mu    sync.Mutex
	s     silence
	armed bool          // run has a timer, or is about to
	at    time.Time     // when it fires
	lost  *atomic.Int64 // counts backends that were given up; may be nil
}

// gaveUp returns why the backend was given up, or nil.
func (w *silenceWatch) gaveUp() error {
	if err := w.silent.Load(); err != nil {
		return *err
	}
	return nil
}

// sent notes that HEADERS or DATA are about to be written. It is called for each, so
// it reads the clock only for the first after something was heard.
func (w *silenceWatch) sent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed && !w.s.since.IsZero() || w.s.open == 0 && !w.s.since.IsZero() {
		return
	}
	if w.s.since.IsZero() {
		w.s.sent(time.Now())
	}
	if w.s.open == 0 || w.armed && !w.s.next().Before(w.at) {
		return
	}
	w.armed = true
	select {
	case w.wake <- struct{}{}:
	default: // it is awake already
	}
}

// heard notes a read, and whether it had HEADERS or DATA.
func (w *silenceWatch) heard(message bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var now time.Time
	if w.s.every > 0 {
		now = time.Now()
	}
	w.s.heard(now, message)
}

// streams notes how many streams are open.
func (w *silenceWatch) streams(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.open = n
}

// wants reports whether the requested PING must still be written.
func (w *silenceWatch) wants() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.s.wait.Running() && w.s.position == ping.Unsent
}

// pinged notes that the PING was written.
func (w *silenceWatch) pinged() {
	acked, pending := socket.Sent(w.conn)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.pinged(time.Now())
	w.s.position = acked + pending
}

// run looks at the connection when that is due, until done. In between, it sleeps
// without a timer unless something was sent and nothing heard.
func (w *silenceWatch) run(done <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-w.wake:
			timer.Reset(w.untilDue())
		case <-timer.C:
			if next := w.look(); !next.IsZero() {
				timer.Reset(time.Until(next))
			}
		case <-done:
			return
		}
	}
}

// untilDue returns how long run can sleep. Usually the backend has answered
// meanwhile; the timer is set anyway, since more will be sent.
func (w *silenceWatch) untilDue() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next := w.s.next(); !next.IsZero() {
		w.at = next
		return time.Until(next)
	}
	w.at = time.Now().Add(silencePatience)
	return silencePatience
}

// look does the due actions, and returns when to look again.
func (w *silenceWatch) look() time.Time {
	unread := socket.Readable(w.conn)
	acked, _ := socket.Sent(w.conn)
	step, next := w.decide(acked, unread)
	switch step {
	case silenceAsk:
		w.asks()
	case silenceGiveUp:
		socket.Cut(w.conn)
	case silenceNothing:
	}
	return next
}

func (w *silenceWatch) decide(acked uint64, unread bool) (silenceStep, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	step := w.s.look(time.Now(), acked, unread)
	next := w.s.next()
	if step == silenceGiveUp {
		err := errBackendSilent
		if w.s.regular {
			err = errNotAlive
		}
		w.silent.Store(&err)
		next = time.Time{}
		if w.lost != nil {
			w.lost.Add(1)
		}
	}
	w.armed, w.at = !next.IsZero(), next
	return step, next
}
