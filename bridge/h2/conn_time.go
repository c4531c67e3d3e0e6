package h2

import (
	"cmp"
	"time"

	"github.com/culvert-grpc/culvert/bridge/socket"
)

// A clock is what a connection has to do at which time. The zero time is never.
type clock struct {
	alarm alarm
	set   time.Time // when it goes off

	read     time.Time // when something was read last
	idle     time.Time // since when there is no stream, or it was last judged; the past while there are
	rested   time.Time // since when there is no stream
	preface  time.Time // by when it must have come
	settings time.Time // likewise
	block    time.Time // by when the header block that has begun must be whole
	pinged   time.Time // when a ping was sent and nothing came since
	missed   time.Time // then: when the client's silence is judged
	silence  error     // what that came to, until the reader has confirmed it
	doubted  bool      // something is overdue, and the reader is to say whether it has come
	again    time.Time // before then the reader isn't asked again
	doubts   int       // how often the reader was asked about the preface, SETTINGS or header block that is overdue
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

// overdue reports whether the client should have sent its preface, its SETTINGS or
// the rest of a header block by now.
func (k *clock) overdue(now time.Time) bool {
	by := earliest(k.preface, k.settings, k.block)
	return !by.IsZero() && !now.Before(by)
}

// due returns when the next thing has to be done. The caller holds mu.
func (c *conn) due() time.Time {
	k, s := &c.clock, &c.settings
	ping, idle, age := time.Time{}, time.Time{}, time.Time{}
	if k.pinged.IsZero() && s.pingAfter > 0 && !c.goodbye.finished() {
		ping = k.read.Add(s.pingAfter)
	}
	if s.idle > 0 && len(c.streams) == 0 && !c.goodbye.finished() {
		idle = k.idle.Add(s.idle)
	}
	if c.goodbye.stage == stageOpen {
		age = k.age
	}
	next := earliest(k.lastWord, k.close, k.rests, ping, idle, age)
	if k.doubted {
		return next
	}
	wait := earliest(k.preface, k.settings, k.block, k.missed)
	if !wait.IsZero() && wait.Before(k.again) {
		wait = k.again
	}
	return earliest(next, wait)
}

// earliest returns the first of the times, of which the zero ones are never.
func earliest(times ...time.Time) time.Time {
	first := time.Time{}
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
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
	if over(k.close) {
		if !c.mayTakeRest(now) {
			c.cut(c.goodbye.end)
			return
		}
		k.close = now.Add(socket.PulseAgain)
	}
	if over(k.missed) {
		c.judgeSilence(now)
	}
	if !k.doubted && !now.Before(k.again) && (k.overdue(now) || k.silence != nil) {
		k.doubted = true
		_ = c.nc.SetReadDeadline(longAgo) // Read sees it; a closed connection needs none
	}
	if over(k.lastWord) {
		c.lastWord()
	}
	if s := &c.settings; s.idle > 0 && len(c.streams) == 0 && !c.goodbye.finished() && over(k.idle.Add(s.idle)) {
		c.judgeIdle(now)
	}
	if over(k.rests) {
		c.endRests(now)
	}
	if over(k.age) {
		c.announce(EndAge)
	}
	if s := &c.settings; s.pingAfter > 0 && k.pinged.IsZero() && !c.goodbye.finished() && over(k.read.Add(s.pingAfter)) {
		c.ping(now)
	}
	c.arm()
	c.releaseToFlush()
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

// nowIdle notes that the last stream has ended. The caller holds mu.
func (c *conn) nowIdle() {
	c.clock.idle = time.Now()
	c.clock.rested = c.clock.idle
	c.rest = socket.Pulse{Conn: c.nc, Patience: c.pulse.Patience}
	c.arm()
}

// judgeIdle judges a connection that has had no stream for its idle time. A slow
// reader of the last answer isn't idle. One that takes nothing is cut, whatever
// it sends: what the kernel holds for it is counted nowhere.
//
// The client's kernel may hold the answer, too, and its program stand still. The
// end of the connection could then overtake the answer: curl 7.88 drops what it
// has not handed on, and any client's next frame would be answered with a reset.
// So a client that hasn't shown that it has read all is asked by a ping before.
// The caller holds mu.
func (c *conn) judgeIdle(now time.Time) {
	k := &c.clock
	k.idle = now
	switch {
	case c.rest.Busy(now):
		if !k.pinged.IsZero() { // it may have taken all but our ping
			k.idle = now.Add(socket.PulseAgain - c.settings.idle)
		}
	case k.pinged.IsZero() && socket.Look(c.nc).Outstanding:
		c.cut(EndSlow)
	case c.seen < c.sent && now.Sub(k.rested) <= c.settings.idle+cmp.Or(c.pulse.Patience, unreadTime):
		if k.pinged.IsZero() {
			c.ping(now)
		}
		k.idle = now.Add(socket.PulseAgain - c.settings.idle)
	default:
		c.announce(EndIdle)
	}
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
		c.clock.block, c.clock.doubts = time.Now().Add(c.settings.headerTime), 0
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
