package bridge

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A watched is what the registry knows of a call, or of a request to the web server: how
// far it is, what it holds, and how to end it.
type watched struct {
	cancel   context.CancelCauseFunc
	conn     net.Conn // of an HTTP/1.1 request or a WebSocket; nil: HTTP/2, whose own pings watch it
	limits   *Limits
	spread   edge.Spread           // for its own time limits
	chosen   atomic.Pointer[route] // the route, once it is selected for good; nil: none
	beats    *beats                // nil: its client gets no heart-beats
	held     *memory.Entry         // the memory counted for it
	progress progress.Record
	in, out  traffic
	stage    atomic.Int32           // of the type stage
	evicted  atomic.Bool            // it ends to free memory for others
	index    int32                  // in the registry's calls; guarded by its mu
	began    int32                  // seconds on the registry's clock
	lastSeen atomic.Int64           // when the last message passed
	expires  atomic.Pointer[expiry] // of its caller's identity; nil: it has none, or it holds for ever

	// These belong to look.
	watch   *socket.Watch // nil: it hasn't looked
	seen    int64         // progress.Sends at the last look at the connection
	settled int64         // those of which the client has acknowledged all
	looked  looked

	registry *registry
	totals   *Traffic // the registry's; guarded by its mu

	// This belongs to relief, under the registry's noting.
	noted *noted // nil: it has not been noted
}

// traffic counts one direction. Two goroutines of a call may end at different
// times, so it is read while it may still be counting.
type traffic struct{ messages, bytes atomic.Int64 }

// look returns why the call must end now, or nil. It asks the kernel for facts that
// otherwise only the connection's owner knows, and only while culvert isn't reading or
// a write is blocked.
func (w *watched) look(now int64) error {
	age, idle := timeLimit{w.limits.MaxAge, report.KeyMaxAge}, timeLimit{w.limits.IdleTimeout, report.KeyIdle}
	if to := w.chosen.Load(); to != nil {
		age, idle = age.or(to.maxAge, report.KeyRouteMaxAge), idle.or(to.idleTimeout, report.KeyRouteIdle)
	}
	switch {
	case w.expires.Load().passed():
		return errExpired
	case age.max > 0 && elapsed(now, int64(w.began)) >= w.spread.Of(age.max):
		return age.reached(report.ReasonMaxAge, "the call reached the age limit of ")
	case idle.max > 0 && elapsed(now, w.lastSeen.Load()) >= w.spread.Of(idle.max):
		return idle.reached(report.ReasonIdleTimeout, "no message passed for ")
	}
	if since := w.progress.MessageSince(); since > 0 && w.limits.SlowSenderTimeout > 0 && elapsed(now, since) >= w.limits.SlowSenderTimeout {
		return report.New(report.ReasonSlowSender, "less than 1 KiB of a message came within "+w.limits.SlowSenderTimeout.String()+" ("+report.Named(report.KeySlowSender)+")").Ending(report.EndedSlow)
	}
	if cause := w.lookAtConn(now); cause != nil {
		return cause
	}
	if since := w.progress.Sending.Load(); since > 0 && w.limits.SlowConsumerTimeout > 0 && elapsed(now, since) >= w.limits.SlowConsumerTimeout {
		return slowConsumer(w.limits)
	}
	return nil
}

// A timeLimit is a limit of a call's time, and the key that sets it.
type timeLimit struct {
	max time.Duration // 0: no limit
	key string
}

// or returns the limit that a route sets in its place: 0 is no change, a negative time
// no limit.
func (l timeLimit) or(d time.Duration, key string) timeLimit {
	if d == 0 {
		return l
	}
	return timeLimit{max(d, 0), key}
}

func (l timeLimit) reached(reason report.Reason, text string) *report.Fault {
	f := &report.Fault{Reason: reason, Text: text + l.max.String() + " (" + report.Named(l.key) + ")", Sent: report.SentMaybe}
	return f.UnlessRaised(l.key)
}

// slowConsumer returns the verdict on a call. A ping that stays unanswered leads to
// errStalled, the same verdict on a connection (socket.Pulse).
func slowConsumer(limits *Limits) error {
	return report.New(report.ReasonSlowConsumer, "the client accepted no data for "+limits.SlowConsumerTimeout.String()+" ("+report.Named(report.KeySlowConsumer)+")").Ending(report.EndedSlow)
}

// lookAtConn asks the kernel about a connection that only this call uses. It does so
// while a write is blocked, while the client may not have acknowledged all data, and
// while culvert isn't reading: the kernel's buffer may have room although the client's
// window is closed, so no write blocks.
func (w *watched) lookAtConn(now int64) error {
	p := &w.progress
	since, sends, reads := p.Sending.Load(), p.Sends.Load(), p.Receiving.Load()
	if w.conn == nil || since == 0 && (now%3 != 0 || reads && sends == w.settled) {
		return nil
	}
	if w.watch == nil { // as for most short calls
		w.watch = new(socket.Watch)
	}
	at := time.Unix(now, 0)
	s := w.watch.Look(w.conn, at, false)
	if !s.Outstanding && sends == w.seen { // a write that began before the last look is in the kernel by now
		w.settled = sends
	}
	w.seen = sends
	stalled := w.watch.Stalled(at)
	if since > 0 && stalled == 0 && s.Known {
		// A blocked write wakes only when a third of the socket's buffer is free, but
		// the client is reading.
		p.Taken(since)
	}
	switch {
	case w.watch.Silent():
		return errSilent
	case w.limits.SlowConsumerTimeout > 0 && stalled >= w.limits.SlowConsumerTimeout:
		return slowConsumer(w.limits)
	case !reads && socket.HungUp(w.conn):
		return errGone
	}
	return nil
}

// elapsed returns the time that certainly passed between a reading of the clock and
// now: the reading may have been taken just before the next look.
func elapsed(now, since int64) time.Duration { return time.Duration(now-since-1) * lookInterval }
