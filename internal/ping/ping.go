// Package ping decides when a peer that leaves a PING of HTTP/2 unanswered is given up. The bridge
// has it for backends, the client for edges. Each knows itself when to send a PING.
package ping

import (
	"math"
	"time"
)

// Seldom is an interval of PINGs that each server of gRPC forgives: stock ones forgive one in 5
// minutes.
const Seldom = 5*time.Minute + 10*time.Second

// maxLook is the longest time between looks at an unanswered PING.
const maxLook = 2 * time.Second

// Unsent is the position of a PING that still waits to be written.
const Unsent = math.MaxUint64

// A Wait is the wait for the answer to a PING. It has no clock: its owner passes the time. The zero
// Wait isn't running.
type Wait struct {
	timeout  time.Duration // for the answer
	every    time.Duration // between looks
	acked    uint64        // acknowledged bytes at the last look
	answerBy time.Time     // when the peer is given up
	next     time.Time     // look; zero: it isn't running
}

// Begin begins the wait for a PING that is to be sent. acked is how many of the sent bytes the
// peer's kernel has acknowledged.
func (w *Wait) Begin(now time.Time, timeout time.Duration, acked uint64) {
	w.timeout, w.every = timeout, min(maxLook, timeout/5)
	w.renew(now, acked)
}

// End ends the wait: the peer sent something.
func (w *Wait) End() { w.next = time.Time{} }

// Running reports whether the peer owes an answer.
func (w *Wait) Running() bool { return !w.next.IsZero() }

// Next returns when to look, or the zero time if the wait isn't running.
func (w *Wait) Next() time.Time { return w.next }

// Look reports whether to give up the peer. position is the PING's place in the bytes sent, as acked
// counts them, or Unsent. If unread is set, bytes wait to be read: then the peer isn't silent, but
// its reader is late. Where the kernel tells nothing of a connection, both numbers are 0.
func (w *Wait) Look(now time.Time, position, acked uint64, unread bool) (giveUp bool) {
	if !w.Running() || now.Before(w.next) {
		return false
	}
	// A PING behind other bytes on a slow path has not arrived yet. And a process
	// that was stopped for a while has not yet read the bytes that arrived meanwhile.
	onItsWay := w.acked < position && acked > w.acked
	wasStopped := now.Sub(w.next) > maxLook
	if onItsWay || wasStopped || unread {
		w.renew(now, acked)
		return false
	}
	w.acked = acked
	w.lookAgain(now)
	return !now.Before(w.answerBy)
}

// renew gives the peer the full time to answer.
func (w *Wait) renew(now time.Time, acked uint64) {
	w.acked, w.answerBy = acked, now.Add(w.timeout)
	w.lookAgain(now)
}

func (w *Wait) lookAgain(now time.Time) {
	w.next = now.Add(w.every)
	if w.answerBy.Before(w.next) {
		w.next = w.answerBy
	}
}
