package h2

import (
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// A clock has the times at which a connection must act. The zero time means never.
type clock struct {
	alarm alarm
	set   time.Time // when it goes off

	read     time.Time // the last read
	idle     time.Time // since when there is no stream, or the last judgement; in the past while there are streams
	rested   time.Time // since when there is no stream
	preface  time.Time // the deadline of the preface
	settings time.Time // the deadline of the client's first SETTINGS
	block    time.Time // the deadline of the header block that has begun
	pinged   time.Time // when a ping was sent without any answer since
	missed   time.Time // then: when to judge the client's silence
	silence  error     // the result, until the reader has confirmed it
	doubted  bool      // something is overdue, and the reader must check whether it has arrived
	again    time.Time // before then the reader isn't asked again
	doubts   int       // how often the reader was asked about the overdue preface, SETTINGS or header block
	lastWord time.Time // when the last GOAWAY is sent
	close    time.Time // when the connection is closed
	age      time.Time // when it stops accepting new streams
	rests    time.Time // the earliest end of a stream that lingers
}

// The payloads of this side's pings identify their answers.
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

// due returns the time of the next action. The caller holds mu.
func (c *conn) due() time.Time {
	k, s := &c.clock, &c.settings
	ping, idle, age := time.Time{}, time.Time{}, time.Time{}
	if k.pinged.IsZero() && s.pingAfter > 0 && !c.goodbye.finished() {
		ping = k.read.Add(s.pingAfter)
	}
	if s.Idle > 0 && len(c.streams) == 0 && !c.goodbye.finished() {
		idle = k.idle.Add(s.Idle)
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

// earliest returns the earliest of the times, ignoring zero ones.
func earliest(times ...time.Time) time.Time {
	first := time.Time{}
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// arm sets the timer, if an action is due before the timer would fire. The caller holds
// mu.
func (c *conn) arm() {
	next := c.due()
	if next.IsZero() || !c.clock.set.IsZero() && !next.Before(c.clock.set) {
		return
	}
	c.clock.set = next
	c.setAlarm(&c.clock.alarm, next, c.tick)
}

// tick runs the actions that are due. It runs under mu.
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
		_ = c.nc.SetReadDeadline(socket.LongAgo) // Read sees it; a closed connection needs none
	}
	if over(k.lastWord) {
		c.lastWord()
	}
	if s := &c.settings; s.Idle > 0 && len(c.streams) == 0 && !c.goodbye.finished() && over(k.idle.Add(s.Idle)) {
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

// cut closes the connection. The close may wait for TLS, so it doesn't happen under mu.
// The reader notices the close and ends the rest.
func (c *conn) cut(why End) {
	if c.closed {
		return
	}
	c.goodbye.end = why
	c.goroutines.Go(func() {
		defer c.catch()
		c.tellEnded()
		_ = c.nc.Close() // serve does it again
	})
}

// watchBlock bounds the time of a header block that has begun. Each block has its own
// time: the next one may have begun in the same read in which one ended.
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

// An alarm is a timer whose function runs under mu. The code that ends the connection
// waits for the function.
type alarm struct {
	timer *time.Timer // is kept: answers to pings set one for each message
	at    time.Time   // the zero time: it isn't set
	f     func()
}

// setAlarm sets the alarm; the zero time removes it. The caller holds mu.
func (c *conn) setAlarm(a *alarm, t time.Time, f func()) {
	if a.timer != nil && a.timer.Stop() {
		c.goroutines.Done()
	}
	a.at, a.f = time.Time{}, nil
	if t.IsZero() || c.closed {
		return
	}
	now := time.Now()
	in := t.Sub(now)
	a.at, a.f = now.Add(in), f // on the clock of timers, which nobody sets back
	c.goroutines.Add(1)
	if a.timer == nil {
		a.timer = time.AfterFunc(in, func() { c.sound(a) })
	} else {
		a.timer.Reset(in)
	}
}

// sound runs the function of an alarm that is due. A timer that fired before it was stopped
// or set anew comes here, too, and finds nothing due.
func (c *conn) sound(a *alarm) {
	defer c.goroutines.Done()
	defer c.catch()
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.at.IsZero() || c.closed || time.Now().Before(a.at) {
		return
	}
	f := a.f
	a.at, a.f = time.Time{}, nil
	f()
}
