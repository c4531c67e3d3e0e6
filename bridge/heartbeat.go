package bridge

import (
	"errors"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// This file has the heart-beat of answers that are events or lines: a proxy in front of
// culvert ends an answer in which nothing passes. The registry's look finds the calls that
// are due, so no stream has a timer. A goroutine writes each beat, since a client that takes
// nothing holds up the write, and may hold up neither the look nor other clients.

// beatsAtOnce is how many beats a look starts before they get a turn. It bounds the memory
// of their goroutines while thousands of calls are due at once.
const beatsAtOnce = 64

// A beater is the client's end of a call whose client gets beats.
type beater interface {
	lastSent() int64 // when anything was last sent, on the registry's clock

	// startBeat has a beat written. It returns false after the end of the server.
	startBeat() bool
}

// beatDue reports whether the call is due for a beat. The first beat is the beginning of
// the answer. Until the call is authorized and has its route, culvert can still refuse it
// with an HTTP status.
func (w *watched) beatDue(now int64) bool {
	if w.beats == nil {
		return false
	}
	m := w.chosen.Load().bare()
	return m != nil && m.Heartbeat > 0 && w.progress.Sending.Load() == 0 && elapsed(now, max(w.began, w.beats.lastSent())) >= m.Heartbeat
}

func (l *linesStream) lastSent() int64 { return l.answer.sent.Load() }

func (l *linesStream) startBeat() bool {
	return l.call.s.sockets.Start(func() {
		if err := l.beat(); err != nil && !errors.Is(err, socket.ErrEnded) {
			l.call.cancel(err)
		}
	})
}

// beat writes a beat, unless the call has gone on meanwhile. It returns why the call must
// end, or nil.
func (l *linesStream) beat() (err error) {
	defer l.call.catch("a heart-beat", &err)
	err = l.guard.WriteBetween(func() error {
		if !l.call.beatDue(l.call.s.registry.now()) {
			return nil
		}
		l.call.progress.BeginSend()
		defer l.call.progress.EndSend()
		return l.answer.beat(&l.httpStream)
	})
	if err != nil && !errors.Is(err, socket.ErrEnded) {
		err = writeFault(err)
	}
	return err
}

// beat sends a comment or an empty line. An event's end has an empty line of its own: to
// some clients another one is an event without data.
func (e *linesAnswer) beat(h *httpStream) error {
	if !h.out.begun {
		e.begin(h, codec.Fields(nil), false)
	}
	line := "\n"
	if e.route.Framing == FramingSSE {
		line = ":\n"
	}
	w, err := h.room(len(line), false)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(line)); err != nil {
		return err
	}
	e.noteSent(h)
	return h.flush()
}
