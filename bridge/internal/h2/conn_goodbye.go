package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// A stage is how far a connection has come with its end. A connection never returns to
// an earlier stage.
type stage uint8

const (
	stageOpen      stage = iota
	stageAnnounced       // the first GOAWAY is queued; new streams are still served
	stageNamed           // the last GOAWAY is queued, and names the last stream that is served
	stageEnding          // no frame follows those in the queue
	stageShut            // the sending side is closed
)

// A goodbye is the end of a connection. RFC 9113 §6.8: a first GOAWAY announces it. The
// last GOAWAY names the last stream that is served, once every stream that the client
// began before it saw the first one has arrived.
type goodbye struct {
	stage stage
	end   End        // this side's first reason
	last  uint32     // from stageNamed on: the last stream that is served
	fault *connError // the error that ended the connection: later input is ignored; nil: none
	hurry bool       // the server shuts down, at any stage, and waits for the connection
}

// finished reports whether nothing more can be sent to the client.
func (g *goodbye) finished() bool { return g.stage == stageShut || g.fault != nil }

// shutdown lets the streams end, and accepts no new ones. hurry: the server waits.
func (c *conn) shutdown(why End, hurry bool) {
	defer c.catch()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announce(why)
	if hurry {
		c.goodbye.hurry = true
		c.hurryRests()
	}
	c.releaseToFlush()
}

// announce sends the first GOAWAY. The answer to the ping after it shows that the
// client has seen it. The caller holds mu.
func (c *conn) announce(why End) {
	if c.goodbye.stage > stageOpen || c.closed {
		return
	}
	c.goodbye.stage, c.goodbye.end = stageAnnounced, why
	f := c.frames()
	f.b = appendGoAway(f.b, 1<<31-1, http2.ErrCodeNo, "")
	f.b = appendPing(f.b, false, goodbyePing)
	c.clock.lastWord = time.Now().Add(pongTime)
	c.arm()
}

// lastWord sends the last GOAWAY. The caller holds mu.
func (c *conn) lastWord() {
	if c.goodbye.stage != stageAnnounced || c.closed {
		return
	}
	c.goodbye.stage, c.goodbye.last = stageNamed, c.taken
	c.clock.lastWord = time.Time{}
	f := c.frames()
	f.b = appendGoAway(f.b, c.taken, http2.ErrCodeNo, "")
	c.endIfDone()
}

// endIfDone closes the sending side after the goodbye, when no stream is left. The
// client then closes the connection; if not, culvert closes it a little later: a close
// with bytes unread would destroy data that was already sent. The caller holds mu.
func (c *conn) endIfDone() {
	if c.goodbye.stage == stageNamed && len(c.streams) == 0 {
		c.noMore()
	}
}

// noMore closes the sending side once the queued frames are written. The caller holds
// mu.
func (c *conn) noMore() {
	c.goodbye.stage = stageEnding
	if c.goodbye.fault != nil {
		c.closeSoon()
	} // else a client may read the rest slowly, as long as it answers pings
	c.startWriter(nil)
}

// closeSoon closes the connection after goodbyeTime. The caller holds mu.
func (c *conn) closeSoon() {
	if c.clock.close.IsZero() {
		c.clock.close = time.Now().Add(goodbyeTime)
		c.arm()
	}
}

// leave ends the connection with all of its streams, for a reason of the server's owner.
func (c *conn) leave(why, text string) {
	defer c.catch()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goodbye.fault == nil && !c.closed {
		c.fail(connError{http2.ErrCodeNo, text})
		c.goodbye.end = End(why)
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
	if c.goodbye.fault != nil || c.closed {
		return
	}
	c.closeStreams()
	c.goodbye.fault, c.goodbye.end = &e, e.end()
	k := &c.clock
	k.settings, k.block, k.lastWord = time.Time{}, time.Time{}, time.Time{}
	k.pinged, k.missed, k.silence = time.Time{}, time.Time{}, nil
	f := c.frames()
	f.b = appendGoAway(f.b, c.taken, e.code, e.text)
	if c.goodbye.stage < stageEnding {
		c.noMore()
	} else {
		c.closeSoon()
		c.startWriter(nil)
	}
}
