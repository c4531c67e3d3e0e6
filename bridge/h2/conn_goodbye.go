package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// A goodbye is how far a connection has come with its end. RFC 9113 §6.8: a
// first GOAWAY announces it, and the last one says which streams were taken,
// once the client can't have begun others without knowing.
type goodbye struct {
	end    End  // why, of this side's reasons the first
	told   bool // Hooks.Ended knows
	begun  bool
	hurry  bool   // the server shuts down: somebody waits for the connection
	said   bool   // the last one is sent
	last   uint32 // then: the last stream that is served
	over   bool   // nothing more will be sent
	failed bool   // because of an error: what comes is not looked at
	why    connError
	shut   bool // the sending side is closed
}

// shutdown lets the streams end, and takes no new ones.
func (c *conn) shutdown(why End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announce(why)
	if why == EndShutdown {
		c.goodbye.hurry = true
		c.hurryRests()
	}
	c.flush()
}

// announce sends the first GOAWAY. The answer to the ping behind it shows that
// the client has seen it. The caller holds mu.
func (c *conn) announce(why End) {
	if c.goodbye.begun || c.closed {
		return
	}
	c.goodbye.begun, c.goodbye.end = true, why
	f := c.frames()
	f.b = appendGoAway(f.b, 1<<31-1, http2.ErrCodeNo, "")
	f.b = appendPing(f.b, false, goodbyePing)
	c.clock.lastWord = time.Now().Add(pongTime)
	c.arm()
}

// lastWord sends the last GOAWAY. The caller holds mu.
func (c *conn) lastWord() {
	if !c.goodbye.begun || c.goodbye.said || c.closed {
		return
	}
	c.goodbye.said, c.goodbye.last = true, c.taken
	c.clock.lastWord = time.Time{}
	f := c.frames()
	f.b = appendGoAway(f.b, c.taken, http2.ErrCodeNo, "")
	c.endIfDone()
}

// endIfDone closes the sending side when goodbye was said and no stream is
// left. The client then closes the connection, or has it closed a little
// later: a close with bytes unread would take what was sent from under it. The
// caller holds mu.
func (c *conn) endIfDone() {
	if c.goodbye.said && len(c.streams) == 0 && !c.goodbye.over {
		c.noMore()
	}
}

func (c *conn) noMore() {
	c.goodbye.over = true
	if c.goodbye.failed {
		c.closeSoon()
	} // else a client may take its time for what is left, as long as it answers pings
	c.startWriter(nil)
}

// closeSoon has the connection closed in goodbyeTime. The caller holds mu.
func (c *conn) closeSoon() {
	if c.clock.close.IsZero() {
		c.clock.close = time.Now().Add(goodbyeTime)
		c.arm()
	}
}

// failed ends the connection because of an error.
func (c *conn) failed(e connError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(e)
}

// fail is failed for a caller that holds mu.
func (c *conn) fail(e connError) {
	if c.goodbye.failed || c.closed {
		return
	}
	c.closeStreams(errConnClosed)
	c.unstarted = nil
	c.goodbye.begun, c.goodbye.said, c.goodbye.failed, c.goodbye.why, c.goodbye.end = true, true, true, e, e.end()
	k := &c.clock
	k.settings, k.block, k.lastWord = time.Time{}, time.Time{}, time.Time{}
	k.pinged, k.missed, k.silence = time.Time{}, time.Time{}, nil
	f := c.frames()
	f.b = appendGoAway(f.b, c.taken, e.code, e.text)
	if !c.goodbye.over {
		c.noMore()
	} else {
		c.closeSoon()
		c.startWriter(nil)
	}
}

// shut closes the sending side, where there is such a thing.
func (c *conn) shut() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // the client may be gone
	}
}
