package socket

import (
	"errors"
	"net"
	"time"
)

// A Sight is the kernel's knowledge of a connection's peer at one moment.
type Sight struct {
	Known       bool   // if false, the kernel doesn't know and the rest is zero
	Acked       uint64 // bytes that the peer has acknowledged so far
	Outstanding bool   // sent or queued bytes are not acknowledged
	Probes      int    // probes in a row that the peer has not answered
	Retransmits int    // retransmissions in a row that the peer has not acknowledged
	Heard       uint32 // segments from the peer so far; wraps around

	Acknowledged time.Duration // ago, the last acknowledgement came
}

// unanswered reports whether enough is unanswered to conclude that the peer is
// silent, and not that a packet was lost.
func (s *Sight) unanswered() bool { return s.Probes >= 2 || s.Retransmits >= 3 }

// Unanswered reports whether the peer has left several probes or retransmissions
// unanswered, and has acknowledged nothing for d: it takes one look, and is less sure than
// a Watch.
func (s *Sight) Unanswered(d time.Duration) bool { return s.unanswered() && s.Acknowledged >= d }

// silentTime is how long a peer must leave probes or retransmissions unanswered
// to count as gone.
const silentTime = 15 * time.Second

// A Watch judges a peer by several looks at its socket. The caller passes the time,
// on a clock that should stand still while the process does.
//
// The age of the last acknowledgement alone proves nothing: a peer with a closed
// window answers the probes, and they can be two minutes apart.
type Watch struct {
	last   Sight
	looked bool
	moved  time.Time // when the peer last accepted data, or no data waited for it
	asked  time.Time // when something was sent that the peer must acknowledge; zero: unknown
	heard  uint32    // Sight.Heard at the first look
	since  time.Time // since when probes or retransmissions are unanswered; zero: none is
	silent bool
}

// Look asks the kernel and notes the changes. If owed is set, the peer owes an answer
// to a ping although the kernel has nothing outstanding.
func (w *Watch) Look(c net.Conn, now time.Time, owed bool) Sight {
	s := Look(c)
	w.see(s, now, owed)
	return s
}

func (w *Watch) see(s Sight, now time.Time, owed bool) {
	before := w.last
	waits := s.Outstanding && before.Outstanding || owed
	// The acknowledgement of data that was just sent only shows that the peer's
	// kernel has room. The acknowledgement of data that had to wait shows that its
	// program reads.
	if !w.looked || !waits || before.Outstanding && s.Acked != before.Acked {
		w.moved = now
	}
	// Count segments, since two looks can't compare the age of the last one: the
	// kernel measures it by another clock.
	answered := w.looked && s.Heard != before.Heard
	if !w.looked {
		w.heard = s.Heard
	}
	switch {
	case s.Probes == 0 && s.Retransmits == 0:
		w.since = time.Time{}
	case w.since.IsZero() || answered:
		w.since = now
		if s.Retransmits > 0 && !w.asked.IsZero() && s.Heard == w.heard {
			w.since = w.asked
		}
	}
	// It takes two looks: the last probe may have been sent at the moment of the
	// first.
	w.silent = s.unanswered() && before.unanswered() && !answered && now.Sub(w.since) >= silentTime
	w.last, w.looked = s, true
}

// Silent reports whether the last looks show that the peer is gone.
func (w *Watch) Silent() bool { return w.silent }

// Stalled returns for how long the peer has accepted none of the data that waits for
// it.
func (w *Watch) Stalled(now time.Time) time.Duration { return now.Sub(w.moved) }

// The conclusions from a ping without an answer.
var (
	ErrNoPong  = errors.New("no pong in time")
	ErrSilent  = errors.New("its host answers neither probes nor retransmissions")
	ErrStalled = errors.New("it answers no pings and accepts no data")
)

// A Pulse judges a peer that leaves a ping unanswered. If data was sent since the
// peer was last heard, the ping waits behind that data, and a peer that doesn't read
// for a while can't answer. If it was little, and the peer's kernel has all of it, the
// peer has longer for its answer. If it was more, the peer counts as gone only if its
// kernel is silent, too, or if it has accepted nothing for Patience.
type Pulse struct {
	Conn     net.Conn
	Patience time.Duration // limits.slow_consumer_timeout; 0: no bound

	watch   Watch
	behind  bool   // data was outstanding when the ping was sent
	sent    uint64 // at the last look
	closing bool   // set by Busy
}

// PulseAgain is the time after which to call Missed again.
const PulseAgain = time.Second

// Ping notes that the caller is about to send a ping, after this many bytes of data.
func (p *Pulse) Ping(now time.Time, sent uint64) {
	p.watch, p.closing = Watch{asked: now}, false
	p.behind, p.sent = p.watch.Look(p.Conn, now, true).Outstanding, sent
}

// A peer that was sent at most littleBytes since it was last heard has littleTime from then
// to answer. Programs that are only busy answer behind so little: Chromium, with its main
// thread blocked, answers behind 192 KiB and not behind 512 KiB.
const (
	littleBytes = 32 << 10
	littleTime  = 45 * time.Second
)

// Unheard is what was sent since a peer was last heard.
type Unheard struct {
	Since   time.Time // when it was last heard
	Bytes   uint64    // of data
	Blocked bool      // a write waits, or data waits for the peer to open a window
}

// Missed returns why the peer is given up, or nil: then ask again after PulseAgain.
// The caller has heard nothing since Ping for the ping's time-out, and has sent this
// many bytes of data by now.
func (p *Pulse) Missed(now time.Time, sent uint64, unheard Unheard) error {
	s := p.watch.Look(p.Conn, now, true)
	if !s.Known && sent != p.sent {
		p.watch.moved = now // the sent bytes are all that is known
	}
	p.sent = sent
	blocked := unheard.Blocked || s.Outstanding
	switch {
	case p.watch.Silent():
		return ErrSilent
	case unheard.Bytes == 0 && !unheard.Blocked && !p.behind:
		return ErrNoPong
	case unheard.Bytes <= littleBytes && !blocked && now.Sub(unheard.Since) >= littleTime:
		return ErrNoPong
	case p.Patience > 0 && p.watch.Stalled(now) >= p.Patience:
		return ErrStalled
	}
	return nil
}

// Busy reports whether a connection that is about to close should wait for its peer,
// because the peer is still reading earlier data. A close would answer the peer's
// next frame with a reset, which destroys the rest. Ask again after PulseAgain.
func (p *Pulse) Busy(now time.Time) bool {
	if !p.closing {
		p.watch, p.closing = Watch{}, true
	}
	s := p.watch.Look(p.Conn, now, true)
	return s.Outstanding && !p.watch.Silent() && (p.Patience == 0 || p.watch.Stalled(now) < p.Patience)
}
