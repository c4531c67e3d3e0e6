package ping

import (
	"testing"
	"time"
)

// TestWait: when a peer is given up after its PING became due. The script looks when the wait asks
// for it.
func TestWait(t *testing.T) {
	const sec, never = time.Second, time.Duration(0)
	for name, c := range map[string]struct {
		timeout time.Duration
		at      func(*look) // what has changed by the time of a look
		gaveUp  time.Duration
	}{
		"no answer":                        {10 * sec, func(*look) {}, 10 * sec},
		"no answer, and 4 s":               {4 * sec, func(*look) {}, 4 * sec},
		"nothing gets on":                  {10 * sec, func(l *look) { l.position = 1000 }, 10 * sec},
		"the ping can't leave":             {10 * sec, func(l *look) { l.position = Unsent }, 10 * sec},
		"bytes behind the ping":            {10 * sec, func(l *look) { l.acked = uint64(l.after) }, 10 * sec},
		"the kernel took the ping at once": {4 * sec, func(l *look) { l.acked = 17 }, 4 * sec},
		"bytes before the ping": {10 * sec, func(l *look) {
			l.position = 1000
			l.acked = min(1000, 20*uint64(l.after/sec))
		}, 60 * sec},
		"bytes before a ping that can't leave yet": {4 * sec, func(l *look) {
			l.position = Unsent
			if l.acked++; l.after >= 20*sec {
				l.position = 0
			}
		}, 23200 * time.Millisecond},
		"slowly, fewer than at each look": {4 * sec, func(l *look) {
			l.position = Unsent
			l.acked = uint64(l.after / (3 * sec))
		}, never},
		"bytes wait to be read":           {10 * sec, func(l *look) { l.unread = l.after < 5*time.Minute }, 5*time.Minute + 8*sec},
		"this process was stopped":        {10 * sec, func(l *look) { l.stop(35 * sec) }, 47 * sec},
		"it was stopped for a short time": {10 * sec, func(l *look) { l.stop(2 * sec) }, 10 * sec},
		"an answer":                       {10 * sec, func(l *look) { l.answered = l.after >= 8*sec }, never},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var w Wait
			if w.Look(begin, 0, 0, false) || w.Running() {
				t.Fatal("the zero Wait is running")
			}
			w.Begin(begin, c.timeout, 0)
			gaveUp := never
			for l := (&look{}); gaveUp == never && w.Running() && l.after < time.Hour; {
				l.after = w.Next().Sub(begin)
				c.at(l)
				if l.answered {
					w.End()
				}
				if w.Look(begin.Add(l.after), l.position, l.acked, l.unread) {
					gaveUp = l.after
				}
			}
			if gaveUp != c.gaveUp {
				t.Errorf("given up after %v, want %v", gaveUp, c.gaveUp)
			}
		})
	}
}

// A look is what the owner of a wait sees.
type look struct {
	after            time.Duration // the begin of the wait
	position, acked  uint64
	unread, answered bool
	stopped          bool
}

// stop makes the first look late.
func (l *look) stop(d time.Duration) {
	if !l.stopped {
		l.stopped = true
		l.after += d
	}
}
