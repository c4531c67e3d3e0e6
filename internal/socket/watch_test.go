package socket

import (
	"errors"
	"net"
	"testing"
	"time"
)

// TestWatch: what successive looks tell of a peer. Each sight is one of a second.
func TestWatch(t *testing.T) {
	type look struct {
		after       int // seconds after the first
		probes      int
		retransmits int
		heard       int // segments
		acked       uint64
		waits       bool // something is outstanding
	}
	many := func(n int, f func(i int) look) []look {
		looks := make([]look, n)
		for i := range looks {
			looks[i] = f(i)
		}
		return looks
	}
	for name, c := range map[string]struct {
		looks   []look
		silent  bool
		stalled time.Duration
	}{
		"a peer that takes all at once": {many(60, func(i int) look { return look{after: i, acked: uint64(i), heard: i} }), false, 0},
		"retransmissions unanswered for 15 s": {many(16, func(i int) look {
			return look{after: i, retransmits: 1 + i/2, waits: true}
		}), true, 15 * time.Second},
		"retransmissions unanswered for 14 s": {many(15, func(i int) look {
			return look{after: i, retransmits: 1 + i/2, waits: true}
		}), false, 14 * time.Second},
		"the last acknowledgement is old, and retransmissions have just begun": {[]look{
			{after: 0}, {after: 7, retransmits: 3, waits: true}, {after: 14, retransmits: 5, waits: true},
		}, false, 7 * time.Second},
		"probes of a closed window, answered, a minute apart": {many(300, func(i int) look {
			return look{after: i, heard: i / 60, waits: true}
		}), false, 299 * time.Second},
		"one of those is lost": {many(80, func(i int) look {
			if i < 60 {
				return look{after: i, waits: true}
			}
			return look{after: i, probes: 1, waits: true}
		}), false, 79 * time.Second},
		"two are lost": {many(80, func(i int) look {
			if i < 40 {
				return look{after: i, waits: true}
			}
			return look{after: i, probes: 1 + (i-40)/20, waits: true}
		}), true, 79 * time.Second},
		"the second was sent just now": {many(61, func(i int) look {
			if i < 40 {
				return look{after: i, waits: true}
			}
			return look{after: i, probes: 1 + (i-40)/20, waits: true}
		}), false, 60 * time.Second},
		"an answer in between": {many(31, func(i int) look {
			return look{after: i, retransmits: 4, heard: i / 20, waits: true}
		}), false, 30 * time.Second},
		"a reader of a little now and then": {many(100, func(i int) look {
			return look{after: i, acked: uint64(i / 30), heard: i / 30, waits: true}
		}), false, 9 * time.Second},
	} {
		var w Watch
		epoch := time.Unix(1000, 0)
		now := epoch
		for _, l := range c.looks {
			now = epoch.Add(time.Duration(l.after) * time.Second)
			w.see(Sight{
				Known: true, Acked: l.acked, Outstanding: l.waits, Probes: l.probes, Retransmits: l.retransmits,
				Heard: uint32(l.heard),
			}, now, false)
		}
		if w.Silent() != c.silent || w.Stalled(now) != c.stalled {
			t.Errorf("%s: silent %v, stalled for %v; want %v and %v", name, w.Silent(), w.Stalled(now), c.silent, c.stalled)
		}
	}
}

// TestPulse: what an unanswered ping shows where the kernel tells nothing.
func TestPulse(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	begun := time.Unix(1000, 0)
	const little, much = 32 << 10, 32<<10 + 1
	for name, c := range map[string]struct {
		patience time.Duration
		sent     func(second int) uint64
		unheard  uint64
		blocked  bool
		at       int // seconds after the ping; 0: never
		want     error
	}{
		"a quiet stream":                   {time.Minute, func(int) uint64 { return 5 }, 0, false, 10, ErrNoPong},
		"a quiet stream that waits":        {time.Minute, func(int) uint64 { return 5 }, 0, true, 60, ErrStalled},
		"little data":                      {time.Minute, func(int) uint64 { return 5 }, 1, false, 25, ErrNoPong},
		"the most that is little":          {time.Minute, func(int) uint64 { return 5 }, little, false, 25, ErrNoPong},
		"little data that goes on":         {time.Minute, func(second int) uint64 { return uint64(second) }, little, false, 25, ErrNoPong},
		"little data that waits":           {time.Minute, func(int) uint64 { return 5 }, little, true, 60, ErrStalled},
		"little data, and no bound":        {0, func(int) uint64 { return 5 }, little, false, 25, ErrNoPong},
		"data before the ping":             {time.Minute, func(int) uint64 { return 5 }, much, false, 60, ErrStalled},
		"data that goes on":                {time.Minute, func(second int) uint64 { return uint64(second) }, much, false, 0, nil},
		"data that stops":                  {time.Minute, func(second int) uint64 { return uint64(min(second, 100)) }, much, false, 160, ErrStalled},
		"patience without a bound":         {0, func(int) uint64 { return 5 }, much, false, 0, nil},
		"patience shorter than a ping's":   {time.Second, func(int) uint64 { return 5 }, much, false, 10, ErrStalled},
		"patience shorter than for little": {time.Second, func(int) uint64 { return 5 }, little, false, 10, ErrStalled},
	} {
		p := Pulse{Conn: one, Patience: c.patience}
		p.Ping(begun, c.sent(0))
		at, got := 0, error(nil)
		for second := 10; second < 1000 && got == nil; second++ {
			unheard := Unheard{Since: begun.Add(-20 * time.Second), Bytes: c.unheard, Blocked: c.blocked}
			at, got = second, p.Missed(begun.Add(time.Duration(second)*time.Second), c.sent(second), unheard)
		}
		if !errors.Is(got, c.want) || got != nil && at != c.at {
			t.Errorf("%s: %v after %d s, want %v after %d s", name, got, at, c.want, c.at)
		}
	}
}
