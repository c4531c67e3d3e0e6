package h2

import (
	"errors"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// By the clock a client's answer, SETTINGS or header may be overdue although the client
// sent it long ago: this process may have stood still, or may be late to read. So the
// timer only raises a doubt, by a read deadline in the past. The reader decides, after
// it has read everything.

// doubtAgain is the time until the reader is asked again after it found something to
// read. Preface, SETTINGS and header get this many doubts in a row: a client that sends
// a byte at a time to a busy culvert always has one waiting.
const (
	doubtAgain = time.Second
	maxDoubts  = 3
)

// Read reads for the reader, which must see only the errors of the connection.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.nc.Read(p)
		if n > 0 || !socket.TimedOut(err) || !c.settleDoubt() {
			return n, err
		}
	}
}

// settleDoubt decides about the doubt that tick raised. It returns false if there is
// none.
func (c *conn) settleDoubt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.clock
	if !k.doubted || c.closed {
		return false
	}
	_ = c.nc.SetReadDeadline(time.Time{}) // a closed connection needs none
	k.doubted = false
	now := time.Now()
	overdue := k.overdue(now)
	if overdue {
		k.doubts++
	}
	if socket.Readable(c.nc) && !(overdue && k.doubts >= maxDoubts) {
		k.again = now.Add(doubtAgain)
	} else {
		c.decide(now)
	}
	c.arm()
	c.releaseToFlush()
	return true
}

// decide ends what is overdue, after everything was read. The caller holds mu.
func (c *conn) decide(now time.Time) {
	k := &c.clock
	over := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case over(k.preface):
		c.cut(EndSlow)
	case over(k.settings):
		c.fail(connError{http2.ErrCodeSettingsTimeout, "no SETTINGS in time"})
	case over(k.block):
		c.fail(connError{http2.ErrCodeEnhanceYourCalm, "a header block takes too long"})
		c.goodbye.end = EndSlow
	case k.silence != nil:
		c.giveUp(k.silence)
	}
}

// ping pings a silent client. The caller holds mu.
func (c *conn) ping(now time.Time) {
	k := &c.clock
	k.pinged, k.missed = now, now.Add(c.settings.pingTimeout)
	c.asked = c.sent
	c.pulse.Ping(now, c.sent)
	f := c.frames()
	f.b = appendPing(f.b, false, keepAlivePing)
}

// stoodStill is the delay of a timer that shows that this process stood still. Data
// that the client sent meanwhile may be lost, and on its way again.
const stoodStill = 2 * time.Second

// judgeSilence judges a client that has left a ping unanswered. The caller holds
// mu.
func (c *conn) judgeSilence(now time.Time) {
	k := &c.clock
	if now.Sub(k.missed) >= stoodStill {
		k.read, k.pinged, k.missed = now, time.Time{}, time.Time{}
		return
	}
	k.silence = c.pulse.Missed(now, c.sent, socket.Unheard{Since: k.read, Bytes: c.sent - c.sentBefore, Blocked: c.blocked()})
	k.missed = now.Add(socket.PulseAgain)
}

// isBlocked is blocked for a carrier.
func (c *conn) isBlocked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocked()
}

// blocked reports whether data waits for the client to read, or to open a window: then it
// has read slowly, and may have stopped reading. Without a call, it may still have to read
// its last answer, and holds nothing else. The caller holds mu.
func (c *conn) blocked() bool {
	if c.out.writing || len(c.streams) == 0 && c.sent != c.sentBefore {
		return true
	}
	for _, st := range c.streams {
		if st.pending.size() > 0 {
			return true
		}
	}
	return false
}

// giveUp ends the connection of a client that doesn't answer. If the client's host
// still answers, the client gets a GOAWAY, since it may read again. The caller holds
// mu.
func (c *conn) giveUp(why error) {
	end := EndSilent
	if errors.Is(why, socket.ErrStalled) {
		end = EndSlow
	}
	if errors.Is(why, socket.ErrSilent) || c.goodbye.finished() {
		c.cut(end)
		return
	}
	k := &c.clock
	k.missed, k.silence = time.Time{}, nil
	c.cancel(why) // handlers pass it to their clients
	c.announce(end)
	c.goodbye.end = end
	c.lastWord()
	k.close = earliest(k.close, time.Now().Add(goodbyeTime))
}

// mayTakeRest reports whether a connection that has sent everything must stay open
// for a client that still reads it. The caller holds mu.
func (c *conn) mayTakeRest(now time.Time) bool {
	g := &c.goodbye
	return g.fault == nil && !g.hurry && g.end != EndSilent && g.end != EndSlow && c.pulse.Busy(now)
}

// pong processes the answer to a ping of ours. The caller holds mu.
func (c *conn) pong(data [8]byte) {
	switch data {
	case keepAlivePing:
		c.seen = c.asked
	case goodbyePing:
		c.lastWord()
	}
}
