package socket

import (
	"errors"
	"net"
	"time"
)

// A Sight is what the kernel knows of a connection's peer at one moment.
type Sight struct {
	Known       bool   // if false, the kernel tells nothing and the rest is zero
	Acked       uint64 // bytes that the peer has acknowledged so far
	Outstanding bool   // bytes are sent or queued and not acknowledged
	Probes      int    // probes in a row that the peer has not answered
	Retransmits int    // retransmissions in a row that the peer has not acknowledged
	Heard       uint32 // segments that came from the peer so far; wraps around
}

// unanswered reports whether enough is unanswered to tell a silent peer from a
// lost packet.
func (s *Sight) unanswered() bool { return s.Probes >= 2 || s.Retransmits >= 3 }

// silentTime is how long a peer must leave probes or retransmissions unanswered
// to count as gone.
const silentTime = 15 * time.Second

// A Watch judges a peer by successive looks at its socket. The caller passes
// the time, on a clock that should stand still while the process does.
//
// The age of the last acknowledgement alone proves nothing: the probes of a
// window that stays closed are answered, and they can be two minutes apart.
type Watch struct {
	last   Sight
	looked bool
	moved  time.Time // when the peer last took something, or nothing waited for it
	asked  time.Time // when something was sent that the peer must acknowledge; zero: unknown
	heard  uint32    // Sight.Heard at the first look
	since  time.Time // since when probes or retransmissions are unanswered; zero: none is
	silent bool
}

// Look asks the kernel and notes what has changed. If owed is set, the peer owes
// something although the kernel has nothing outstanding: an answer to a ping.
func (w *Watch) Look(c net.Conn, now time.Time, owed bool) Sight {
	s := Look(c)
	w.see(s, now, owed)
	return s
}

func (w *Watch) see(s Sight, now time.Time, owed bool) {
	before := w.last
	waits := s.Outstanding && before.Outstanding || owed
	// An acknowledgement of what was sent just now only shows that the peer's
	// kernel has room. That of what had to wait shows that its program reads.
	if !w.looked || !waits || before.Outstanding && s.Acked != before.Acked {
		w.moved = now
	}
	// Segments are counted, since the age of the last one can't be compared
	// between two looks: the kernel tells it by another clock.
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
	// Two looks: the last probe may have been sent at the moment of the first.
	w.silent = s.unanswered() && before.unanswered() && !answered && now.Sub(w.since) >= silentTime
	w.last, w.looked = s, true
}

// Silent reports whether the last looks show that the peer is gone.
func (w *Watch) Silent() bool { return w.silent }

// Stalled returns for how long the peer has taken nothing of what waits for it.
func (w *Watch) Stalled(now time.Time) time.Duration { return now.Sub(w.moved) }

// What a ping without an answer can show.
var (
	ErrNoPong  = errors.New("no pong in time")
	ErrSilent  = errors.New("its host answers neither probes nor retransmissions")
	ErrStalled = errors.New("it answers no pings and accepts no data")
)

// A Pulse judges a peer that leaves a ping unanswered. If data was sent since the
// peer was last heard, the ping waits behind it, and a peer that doesn't read
// for a while can't answer: then the peer is gone only if its kernel is silent,
// too, or if it has taken nothing for Patience.
type Pulse struct {
	Conn     net.Conn
	Patience time.Duration // limits.slow_consumer_timeout; 0: no bound

	watch   Watch
	behind  bool   // data was outstanding when the ping was sent
	sent    uint64 // at the last look
	closing bool   // watch is Busy's
}

// PulseAgain is how soon Missed wants to be asked again.
const PulseAgain = time.Second

// Ping notes that a ping is about to be sent; the caller has sent that many
// bytes of data before.
func (p *Pulse) Ping(now time.Time, sent uint64) {
	p.watch, p.closing = Watch{asked: now}, false
	p.behind, p.sent = p.watch.Look(p.Conn, now, true).Outstanding, sent
}

// Missed returns why the peer is given up, or nil: then ask again after
// PulseAgain. The caller has heard nothing since Ping for the ping's time-out,
// and has sent so many bytes of data by now. If quiet, none of them was sent
// since the peer was last heard.
func (p *Pulse) Missed(now time.Time, sent uint64, quiet bool) error {
	if s := p.watch.Look(p.Conn, now, true); !s.Known && sent != p.sent {
		p.watch.moved = now // what could be sent is all that is known
	}
	p.sent = sent
	switch {
	case p.watch.Silent():
		return ErrSilent
	case quiet && !p.behind:
		return ErrNoPong
	case p.Patience > 0 && p.watch.Stalled(now) >= p.Patience:
		return ErrStalled
	}
	return nil
}

// Busy reports whether a connection that is to be closed should wait for its
// peer, which goes on taking what was sent before. A close would answer the
// next frame of the peer's with a reset, and that takes the rest from it. Ask
// again after PulseAgain.
func (p *Pulse) Busy(now time.Time) bool {
	if !p.closing {
		p.watch, p.closing = Watch{}, true
	}
	s := p.watch.Look(p.Conn, now, true)
	return s.Outstanding && !p.watch.Silent() && (p.Patience == 0 || p.watch.Stalled(now) < p.Patience)
}
