package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// A clock is what a connection has to do at which time. The zero time is never.
type clock struct {
	alarm alarm
	set   time.Time // when it goes off

	read     time.Time // when something was read last
	idle     time.Time // since when there is no stream; the past while there are
	preface  time.Time // by when it must have come
	settings time.Time // likewise
	block    time.Time // by when the header block that has begun must be whole
	pinged   time.Time // when a ping was sent that is not answered
	lastWord time.Time // when the last GOAWAY goes out
	close    time.Time // when the connection is closed
	age      time.Time // when it takes no new streams any more
	rests    time.Time // when a stream that lingers is to end, at the earliest
}

// pingData is what our pings hold, to know their answers by.
var (
	keepAlivePing = [8]byte{'a', 'l', 'i', 'v', 'e'}
	goodbyePing   = [8]byte{'g', 'o', 'o', 'd', 'b', 'y', 'e'}
)

// due returns when the next thing has to be done. The caller holds mu.
func (c *conn) due() time.Time {
	k, s := &c.clock, &c.settings
	ping, idle, age := time.Time{}, time.Time{}, time.Time{}
	switch {
	case !k.pinged.IsZero():
		ping = k.pinged.Add(s.pingTimeout)
	case s.pingAfter > 0 && !c.goodbye.shut && !c.goodbye.failed:
		ping = k.read.Add(s.pingAfter)
	}
	if s.idle > 0 && len(c.streams) == 0 && !c.goodbye.begun {
		idle = k.idle.Add(s.idle)
	}
	if !c.goodbye.begun {
		age = k.age
	}
	next := time.Time{}
	for _, t := range [...]time.Time{k.preface, k.settings, k.block, k.lastWord, k.close, k.rests, ping, idle, age} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// arm sets the timer, if something is due earlier than it was to go off. The
// caller holds mu.
func (c *conn) arm() {
	next := c.due()
	if next.IsZero() || !c.clock.set.IsZero() && !next.Before(c.clock.set) {
		return
	}
	c.clock.set = next
	c.setAlarm(&c.clock.alarm, next, c.tick)
}

// tick does what is due. It runs under mu.
func (c *conn) tick() {
	k, now := &c.clock, time.Now()
	k.set = time.Time{}
	over := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case over(k.close):
		c.cut(c.goodbye.end)
		return
	case over(k.preface):
		c.cut(EndSlow)
		return
	case !k.pinged.IsZero() && over(k.pinged.Add(c.settings.pingTimeout)):
		c.cut(EndSilent)
		return
	case over(k.settings):
		c.fail(connError{http2.ErrCodeSettingsTimeout, "no SETTINGS in time"})
	case over(k.block):
		c.fail(connError{http2.ErrCodeEnhanceYourCalm, "a header block takes too long"})
		c.goodbye.end = EndSlow
	}
	if over(k.lastWord) {
		c.lastWord()
	}
	if s := &c.settings; s.idle > 0 && len(c.streams) == 0 && over(k.idle.Add(s.idle)) {
		c.announce(EndIdle)
	}
	if over(k.rests) {
		c.endRests(now)
	}
	if over(k.age) {
		c.announce(EndAge)
	}
	if s := &c.settings; s.pingAfter > 0 && k.pinged.IsZero() && !c.goodbye.shut && !c.goodbye.failed && over(k.read.Add(s.pingAfter)) {
		k.pinged = now
		f := c.frames()
		f.b = appendPing(f.b, false, keepAlivePing)
	}
	c.arm()
	c.flush()
}

// cut closes the connection. A close may wait for what TLS has to say, so it
// is not done under mu; the reader sees it and ends the rest.
func (c *conn) cut(why End) {
	if c.closed {
		return
	}
	c.goodbye.end = why
	c.goroutines.Add(1)
	go func() {
		defer c.goroutines.Done()
		c.tellEnded()
		_ = c.nc.Close() // serve does it again
	}()
}

// pong takes in the answer to a ping of ours. The caller holds mu.
func (c *conn) pong(data [8]byte) {
	switch data {
	case keepAlivePing:
		c.clock.pinged = time.Time{}
		c.arm()
	case goodbyePing:
		c.lastWord()
	}
}

// nowIdle notes that the last stream has ended. The caller holds mu.
func (c *conn) nowIdle() {
	c.clock.idle = time.Now()
	c.arm()
}

// watchBlock bounds the time of a header block that has begun. Each has its
// own time: the next may have begun in the same read in which one ended.
func (c *conn) watchBlock(begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !begun:
		c.clock.block = time.Time{}
	case c.clock.block.IsZero() || c.watched != c.blocks:
		c.watched = c.blocks
		c.clock.block = time.Now().Add(c.settings.headerTime)
		c.arm()
	}
}

// An alarm is a timer whose function runs under mu. Who ends the connection
// waits for it.
type alarm struct {
	timer *time.Timer
	turn  int // tells a timer that went off late from the one that is set
}

// setAlarm sets the alarm anew; the zero time takes it off. The caller holds mu.
func (c *conn) setAlarm(a *alarm, t time.Time, f func()) {
	if a.timer != nil && a.timer.Stop() {
		c.goroutines.Done()
	}
	a.timer = nil
	a.turn++
	if t.IsZero() || c.closed {
		return
	}
	turn := a.turn
	c.goroutines.Add(1)
	a.timer = time.AfterFunc(time.Until(t), func() {
		defer c.goroutines.Done()
		c.mu.Lock()
		defer c.mu.Unlock()
		if a.turn == turn && !c.closed {
			f()
		}
	})
}
