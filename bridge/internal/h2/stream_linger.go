package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// The rest of a request that was answered early is not wanted, and RST_STREAM
// with NO_ERROR may say so. RFC 9113 §8.1. But a client that reads the reset
// together with the answer may lose the answer: curl 7.88 drops data that it has
// not handed on. If it was still sending, it even treats a complete answer as a
// failure. So the answer leaves alone, and the stream lingers: the server drops
// the rest of the request. Most clients end or reset the stream once they have
// the answer. The others get the reset when they fall silent, or send too much,
// or for too long; net/http's client stops sending only then.
//
// A browser gets RST_STREAM right after the answer: Chromium gives a page no
// part of an answer before its request has ended or is reset.
const (
	restSilence = 5 * time.Second  // far more than a round trip: a client with more data sends it
	restTime    = 30 * time.Second // in all
	restBytes   = 4 << 20          // the largest message that gRPC servers take by default

	// While the server shuts down, it waits for the connection.
	lastRestSilence = 100 * time.Millisecond
	lastRestTime    = 500 * time.Millisecond
)

// A rest is how much a lingering stream may still receive.
type rest struct {
	bytes int
	until time.Time // if nothing comes
	end   time.Time // whatever comes
}

// came notes n bytes. It returns false when there were too many.
func (r *rest) came(n int, now time.Time) bool {
	r.bytes -= n
	r.until = now.Add(restSilence)
	return r.bytes >= 0
}

// hurry shortens the time to that of a shutdown.
func (r *rest) hurry(now time.Time) {
	r.until = earliest(r.until, now.Add(lastRestSilence))
	r.end = earliest(r.end, now.Add(lastRestTime))
}

func (r *rest) due() time.Time { return earliest(r.until, r.end) }

// linger ends the handler's part of a stream whose request isn't complete. The caller
// holds mu and flushes.
func (st *stream) linger() {
	c := st.c
	now := time.Now()
	st.lingers = true
	c.lingering++
	st.rest = rest{restBytes, now.Add(restSilence), now.Add(restTime)}
	if c.goodbye.hurry {
		st.rest.hurry(now)
	}
	c.setAlarm(&st.readAlarm, time.Time{}, nil)
	c.setAlarm(&st.writeAlarm, time.Time{}, nil)
	st.readErr = errHandlerEnded
	st.dropUnread()
	st.recv.owed = 0
	if inc := st.recv.give(st.recv.size - st.recv.left); inc > 0 { // also for what was read and dropped
		f := c.frames()
		f.b = appendWord(f.b, http2.FrameWindowUpdate, st.id, uint32(inc))
	}
	st.cancel()
	st.readable.Broadcast()
	st.req, st.handler = nil, nil // they may be freed
	if c.lingering > max(c.settings.Streams/2, 1) {
		c.oldestRest().endRest() // the other places are for requests
	}
	if !st.closed {
		c.armRests(st.rest.due())
	}
}

// drop processes n bytes that nobody reads. The caller holds mu.
func (st *stream) drop(n int, end bool) {
	c := st.c
	st.credit(n)
	whole := st.rest.came(n, c.clock.read)
	switch {
	case end:
		st.complete()
		c.nudge()
	case !whole:
		st.endRest()
	case c.goodbye.hurry:
		st.rest.hurry(c.clock.read)
	}
}

// oldestRest returns the stream that is to end first. The caller holds mu.
func (c *conn) oldestRest() (oldest *stream) {
	for _, st := range c.streams {
		if st.lingers && (oldest == nil || st.rest.due().Before(oldest.rest.due())) {
			oldest = st
		}
	}
	return oldest
}

// endRest tells the client to send no more. The caller holds mu.
func (st *stream) endRest() { st.reset(http2.ErrCodeNo, errHandlerEnded) }

// endRests does so on streams that have lingered long enough. The caller holds mu.
func (c *conn) endRests(now time.Time) {
	c.clock.rests = time.Time{}
	for _, st := range c.streams {
		switch due := st.rest.due(); {
		case !st.lingers:
		case !now.Before(due):
			st.endRest()
		default:
			c.clock.rests = earliest(c.clock.rests, due) // tick arms
		}
	}
}

// hurryRests shortens them for a shutdown. The caller holds mu.
func (c *conn) hurryRests() {
	now := time.Now()
	for _, st := range c.streams {
		if st.lingers {
			st.rest.hurry(now)
			c.armRests(st.rest.due())
		}
	}
}

// armRests sets the alarm for the streams that linger. The caller holds mu.
func (c *conn) armRests(due time.Time) {
	if c.clock.rests.IsZero() || due.Before(c.clock.rests) {
		c.clock.rests = due
		c.arm()
	}
}

// nudge sends a frame that means next to nothing. curl 7.88 checks whether its stream
// is over only when a frame arrives, and the end of its request may have been the last.
// The caller holds mu.
func (c *conn) nudge() {
	if c.closed || c.goodbye.fault != nil {
		return
	}
	if inc := c.recv.advance(); inc > 0 {
		f := c.frames()
		f.b = appendWord(f.b, http2.FrameWindowUpdate, 0, uint32(inc))
	}
}
