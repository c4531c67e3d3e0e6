package h2

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// A stream is one request and its answer. RFC 9113 §5.
type stream struct {
	c       *conn
	id      uint32
	ctx     context.Context // the request's: it ends with the stream
	cancel  context.CancelFunc
	req     *http.Request
	handler http.Handler

	body body
	w    response

	// The rest is guarded by the connection's mu.

	begun        time.Time
	closed       bool  // it is over: nothing is received or sent
	err          error // then: why the handler's reads and writes fail
	remoteClosed bool  // the client has sent all
	localClosed  bool  // all is sent to the client

	recv       inflow
	uncredited int     // of the connection's window: received, and not given back
	counter    Counter // nil: nothing counts them
	declared   int64   // content-length; -1: none
	got        int64
	head, tail *chunk      // received, and not taken by the body's reader
	readErr    error       // the result of reads after that
	trailer    http.Header // nil: the request announced none
	readable   sync.Cond
	readAlarm  alarm

	browser bool // a browser sent the request
	lingers bool // the answer is sent, the handler gone
	rest    rest // then

	window     outflow
	answered   bool // the header is in the buffer
	pending    pending
	queued     bool // among those that have something to send
	prev, next *stream
	writable   sync.Cond
	writeAlarm alarm
	late       bool // the write deadline has passed
	part       bool // data was sent since the last flush
	sparing    bool // a write that is late only fails, if none of it is sent (CutWrites)
	settled    bool // only the end follows, and there was room for it
	left       bool // the handler has returned, and the rest of the answer waits for the client
}

func newStream(c *conn, id uint32) *stream {
	st := &stream{c: c, id: id, recv: newInflow(c.settings.streamWindow)}
	st.ctx, st.cancel = context.WithCancel(c.ctx)
	st.readable.L, st.writable.L = &c.mu, &c.mu
	st.body.st, st.w.st = st, st
	st.w.length = -1
	return st
}

// start runs the handler, now or when others have ended: handlers of reset streams
// continue, too.
func (c *conn) start(st *stream) error {
	c.hookMu.Lock() // a handler that ends early waits before it reports that
	defer c.hookMu.Unlock()
	served, err := c.add(st)
	if served && !c.busy {
		c.busy = true
		c.tell(http.StateActive)
	}
	return err
}

// add is start under mu. It reports whether the stream is served.
func (c *conn) add(st *stream) (served bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goodbye.stage >= stageNamed || c.closed {
		st.cancel() // the client knows that it isn't served
		return false, nil
	}
	c.taken = st.id
	st.begun = c.clock.read
	st.window = outflow(c.initial)
	c.streams[st.id] = st
	switch {
	case c.handlers < c.settings.Streams:
		c.run(st)
	case len(c.unstarted) < 4*c.settings.Streams:
		c.unstarted = append(c.unstarted, st)
	default:
		return true, connError{http2.ErrCodeEnhanceYourCalm, "streams are reset faster than they are served"}
	}
	return true, nil
}

// run starts a handler. The caller holds mu.
func (c *conn) run(st *stream) {
	c.handlers++
	c.goroutines.Add(1)
	go st.run()
}

// run is the handler's goroutine.
func (st *stream) run() {
	defer st.c.goroutines.Done()
	defer st.c.catch()
	whole := false
	defer func() {
		if !whole {
			st.aborted(recover())
			st.dropForm()
		}
		st.handled()
		st.c.tellBusy()
	}()
	st.handler.ServeHTTP(&st.w, st.req)
	st.dropForm()
	st.w.finish()
	whole = true
}

// aborted resets the stream of a handler that panicked.
func (st *stream) aborted(v any) {
	if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
		st.c.tellPanic(v)
	}
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.reset(http2.ErrCodeInternal, errHandlerEnded)
	st.c.releaseToFlush()
}

// dropForm removes the files of a form, as net/http does.
func (st *stream) dropForm() {
	if r := st.req; r != nil && r.MultipartForm != nil {
		_ = r.MultipartForm.RemoveAll() // net/http ignores the error, too
	}
}

// handled ends the stream of a handler that has ended, and lets others begin.
func (st *stream) handled() {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.counter != nil {
		st.counter.Unread(-st.uncredited)
		st.counter = nil
	}
	st.endLeft()
	switch {
	case st.closed:
	case st.remoteClosed:
		st.complete()
	case st.browser:
		st.endRest()
	default:
		st.linger()
	}
	c.handlers--
	for len(c.unstarted) > 0 && c.handlers < c.settings.Streams && !c.closed {
		next := c.unstarted[0]
		c.unstarted[0] = nil
		c.unstarted = c.unstarted[1:]
		if !next.closed {
			c.run(next)
		}
	}
	c.endIfDone()
	c.releaseToFlush()
}

// endLeft undoes what blockedBehind has counted. The caller holds mu.
func (st *stream) endLeft() {
	if st.left {
		st.left = false
		st.c.left--
	}
}

// complete ends the stream as both sides meant to. The caller holds mu.
func (st *stream) complete() {
	st.c.ended.add(st.id, endBoth)
	st.c.wasted.Earn(1, maxWasted)
	st.close(errHandlerEnded)
}

// reset tells the client that the stream is over. The caller holds mu.
func (st *stream) reset(code http2.ErrCode, err error) {
	if st.closed {
		return
	}
	c := st.c
	c.ended.add(st.id, endCut)
	st.close(err)
	c.answer(func(b []byte) []byte { return appendWord(b, http2.FrameRSTStream, st.id, uint32(code)) })
}

// close ends the stream on this side, whatever made it. The caller holds mu.
func (st *stream) close(err error) {
	if st.closed {
		return
	}
	c := st.c
	st.closed, st.err = true, err
	delete(c.streams, st.id)
	if st.lingers {
		c.lingering--
	}
	st.endLeft()
	st.unqueue()
	c.setAlarm(&st.readAlarm, time.Time{}, nil)
	c.setAlarm(&st.writeAlarm, time.Time{}, nil)
	if st.readErr == nil || st.head != nil { // otherwise the end would make the part look like the whole
		st.readErr = err
	}
	st.dropUnread()
	st.cancel()
	st.readable.Broadcast()
	st.writable.Broadcast()
	if len(c.streams) == 0 && !c.closed {
		c.clock.idle = time.Now()
		c.clock.rested = c.clock.idle
		c.rest = socket.Pulse{Conn: c.nc, Patience: c.pulse.Patience}
		c.arm()
		c.endIfDone()
	}
}

// These are the errors of reads and writes after a deadline.
var (
	errDeadline = fmt.Errorf("h2: %w", os.ErrDeadlineExceeded)
	errDropped  = fmt.Errorf("%w: %w", errDeadline, socket.ErrNothingSent)
)

// setReadDeadline makes reads fail from then on, after the received data.
func (st *stream) setReadDeadline(t time.Time) {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.setDeadline(&st.readAlarm, t, func() {
		if st.readErr == nil {
			st.readErr = errDeadline
			st.readable.Broadcast()
		}
	})
}

// setWriteDeadline ends a write that waits for the client after that time.
func (st *stream) setWriteDeadline(t time.Time, sparing bool) {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.late, st.sparing = false, sparing
	st.setDeadline(&st.writeAlarm, t, st.expireWrite)
}

func (st *stream) expireWrite() {
	st.late = true
	st.judgeLate()
	st.c.releaseToFlush()
}

// lateAgain is the time until a late stream is judged again.
const lateAgain = 50 * time.Millisecond

// judgeLate resets a late stream whose answer waits for the client: a part of it can't be
// taken back. If sparing, and the client's window let none of it through, only the write fails.
// On a busy machine an answer may only wait for the connection's writer, or for its handler.
// The caller holds mu.
func (st *stream) judgeLate() {
	switch {
	case st.closed || st.pending.empty():
	case st.sparing && st.waitsForWindow() && !st.part && !st.pending.end:
		st.pending = pending{dropped: true}
		st.unqueue()
		st.writable.Broadcast()
	case st.waitsForWindow() || socket.Blocked(st.c.nc):
		st.reset(http2.ErrCodeInternal, errDeadline)
	default:
		st.c.setAlarm(&st.writeAlarm, time.Now().Add(lateAgain), st.expireWrite)
	}
}

// setDeadline runs expire at that time. The caller holds mu.
func (st *stream) setDeadline(a *alarm, t time.Time, expire func()) {
	c := st.c
	if st.closed {
		return
	}
	if t.IsZero() || t.After(time.Now()) {
		c.setAlarm(a, t, expire)
		return
	}
	c.setAlarm(a, time.Time{}, nil)
	expire()
}
