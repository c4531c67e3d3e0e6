package websocket

import (
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// pongDue is the ping that still needs an answer. RFC 6455 §5.5.3: only the latest
// does.
type pongDue struct {
	mu      sync.Mutex
	due     bool
	payload []byte
}

// answer notes a ping, and answers it now if the line is free. Otherwise the message
// that is being written goes first.
func (c *Conn) answer(payload []byte) {
	c.pong.note(payload)
	c.tryPong()
}

func (p *pongDue) note(payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.payload = append(p.payload[:0], payload...)
	p.due = true
}

// is reports whether a ping needs an answer.
func (p *pongDue) is() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.due
}

// hold puts the answer into the line, once. It returns false if no ping needs one.
func (p *pongDue) hold(l *line) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.due {
		return false
	}
	p.due = false
	l.holdFrame(opPong, p.payload)
	return true
}

// pongRetry is the delay before another try of a pong that found the line taken.
const pongRetry = 250 * time.Millisecond

// tryPong sends the due pong if the line is free. Otherwise it tries again, unless a
// message that is written meanwhile brings the pong along.
func (c *Conn) tryPong() {
	if c.pongNow() {
		return
	}
	c.schedule(&c.pongAt, pongRetry, func() {
		if c.pong.is() {
			c.tryPong()
		}
	})
}

// pongNow sends the due pong if the line is free, and reports whether it was.
func (c *Conn) pongNow() (free bool) {
	if !c.line.mu.TryLock() {
		return false
	}
	defer c.line.abandon()
	if free = c.line.free(); free {
		_ = c.sendPong() // the reader meets the same error
	}
	c.line.leave()
	return free
}

// sendPong answers the latest ping, unless that is done or the last frame was sent.
// The connection's mu is held.
func (c *Conn) sendPong() error {
	if c.line.ended.Load() || !c.pong.hold(c.line) {
		return nil
	}
	return c.line.flush()
}

// KeepAlive sets how pings watch a client.
type KeepAlive struct {
	Interval time.Duration // between pings
	Timeout  time.Duration // for an answer

	// SlowConsumer is how long a client may leave unanswered a ping that waits behind
	// messages, without accepting any of them. 0 means no bound.
	SlowConsumer time.Duration

	// Blocked reports that data waits for the client which the WebSocket hasn't got yet. A
	// client that stands still then has as long as SlowConsumer. It may be nil.
	Blocked func() bool

	// Gone is called once, with an error of package socket, when the client is
	// given up. It must not block, nor close the WebSocket, which waits for it.
	Gone func(error)
}

// Watch pings the client until the WebSocket is closed. Silence counts only while a
// reader waits: the reader decides, once it has read everything. It costs a timer and
// no goroutine.
func (c *Conn) Watch(k KeepAlive) {
	c.slowConsumer = k.SlowConsumer
	c.schedulePing(k.Interval, func() { // most calls have ended by then
		w := &watch{c: c, KeepAlive: k, pulse: socket.Pulse{Conn: c.line.conn, Patience: k.SlowConsumer}}
		w.ping()
	})
}

// A watch runs a WebSocket's KeepAlive. Its functions run one at a time, on the
// WebSocket's timer.
type watch struct {
	KeepAlive
	c        *Conn
	pulse    socket.Pulse
	received int64     // when the ping was due
	pinged   bool      // it was sent; else a message is in its way
	due      time.Time // when its answer is overdue
}

func (w *watch) ping() {
	now := time.Now()
	w.received = w.c.line.received.Load()
	w.pulse.Ping(now, w.c.line.sent.Load())
	w.pinged = w.c.ping()
	w.missedIn(now, w.Timeout)
}

func (w *watch) missedIn(now time.Time, d time.Duration) {
	w.due = now.Add(d)
	w.c.schedulePing(d, w.missed)
}

// stoodStill is the delay of a timer that shows that this process stood still. Data
// that the client sent meanwhile may be lost, and on its way again.
const stoodStill = 2 * time.Second

func (w *watch) missed() {
	now := time.Now()
	if w.c.line.received.Load() != w.received || !w.c.reading.Load() || now.Sub(w.due) >= stoodStill {
		w.c.schedulePing(w.Interval-w.Timeout, w.ping)
		return
	}
	if !w.pinged && w.c.ping() {
		w.pinged = true
		w.missedIn(now, w.Timeout)
		return
	}
	line := w.c.line
	before := line.sentBefore.Load() // first: it never exceeds what is sent
	sent := line.sent.Load()
	why := w.pulse.Missed(now, sent, socket.Unheard{
		Since: line.begun.Add(time.Duration(line.heard.Load())), Bytes: sent - before,
		Blocked: w.c.writing.Load() || !w.pinged || w.Blocked != nil && w.Blocked(),
	})
	w.missedIn(now, socket.PulseAgain)
	if why != nil {
		received := w.received
		w.c.doubt(func() {
			if line.received.Load() == received { // else the answer was read while this looked
				w.c.schedulePing(0, func() { w.Gone(why) })
			}
		})
	}
}

// doubts let the timer ask the reader about a client that hasn't answered its ping:
// the reader calls confirm if nothing is left to read.
type doubts struct {
	mu      sync.Mutex
	until   time.Time // the read deadline of the WebSocket's owner
	confirm func()    // nil: no doubt
}

// SetReadDeadline sets the deadline of NextMessage and Read.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.doubts.mu.Lock()
	defer c.doubts.mu.Unlock()
	c.doubts.until = t
	return c.line.conn.SetReadDeadline(t)
}

// doubt makes the reader call confirm if nothing is left to read.
func (c *Conn) doubt(confirm func()) {
	c.doubts.mu.Lock()
	defer c.doubts.mu.Unlock()
	c.doubts.confirm = confirm
	_ = c.line.conn.SetReadDeadline(socket.LongAgo) // a closed connection needs none
}

// settleDoubt is called by the reader when a deadline has passed. It returns false if
// the deadline was the owner's.
func (c *Conn) settleDoubt() bool {
	c.doubts.mu.Lock()
	defer c.doubts.mu.Unlock()
	confirm := c.doubts.confirm
	if confirm == nil {
		return false
	}
	c.doubts.confirm = nil
	_ = c.line.conn.SetReadDeadline(c.doubts.until) // a closed connection needs none
	if !socket.Readable(c.line.conn) {
		confirm()
	}
	return true
}

// ping writes a ping unless a message is in its way.
func (c *Conn) ping() bool {
	if !c.line.mu.TryLock() {
		return false
	}
	defer c.line.abandon()
	sent := false
	if c.line.free() && !c.line.ended.Load() {
		c.line.holdFrame(opPing, nil)
		sent = c.line.flush() == nil // else the reader meets the same error
	}
	c.line.leave()
	return sent
}

func (c *Conn) schedulePing(after time.Duration, f func()) { c.schedule(&c.pingAt, after, f) }

// schedule runs f later, in place of the timer's earlier function, unless stopPings
// comes first.
func (c *Conn) schedule(at **time.Timer, after time.Duration, f func()) {
	c.pingMu.Lock()
	defer c.pingMu.Unlock()
	if c.pingsOff {
		return
	}
	if *at != nil && (*at).Stop() {
		c.pinging.Done()
	}
	c.pinging.Add(1)
	*at = time.AfterFunc(after, func() {
		defer c.pinging.Done()
		defer c.catch(func() { socket.Cut(c.line.conn) }) // the reader meets the end
		f()
	})
}

// catch ends a panic, tells the owner of it, and then calls then. It must be deferred itself.
func (c *Conn) catch(then func()) {
	if v := recover(); v != nil {
		if c.panicked != nil {
			c.panicked(v)
		}
		defer c.catch(func() {})
		then()
	}
}

func (c *Conn) stopPings() {
	c.pingMu.Lock()
	c.pingsOff = true
	for _, at := range []*time.Timer{c.pingAt, c.pongAt} {
		if at != nil && at.Stop() {
			c.pinging.Done()
		}
	}
	c.pingMu.Unlock()
	c.pinging.Wait() // none of them blocks
}
