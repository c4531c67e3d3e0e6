package bridge

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// This file has the heart-beat of answers over HTTP whose clients take one: a proxy in front
// of culvert ends an answer in which nothing passes. The registry's look finds the calls that
// are due, so no stream has a timer. A goroutine writes each beat, since a client that takes
// nothing holds up the write, and may hold up neither the look nor other clients.

// beatsAtOnce is how many beats a look starts before they get a turn. It bounds the memory
// of their goroutines while thousands of calls are due at once.
const beatsAtOnce = 64

// beats are the heart-beats of a call.
type beats struct {
	h  *httpStream
	in interface { // the stream that has h
		beat() error              // writes one
		beatEvery() time.Duration // for how long nothing may be sent; 0: for ever
	}

	sends, at atomic.Int64 // the progress's Sends when they last changed, and when that was, on the registry's clock
}

// lastSent returns when anything was last sent, as far as a look has seen it.
func (b *beats) lastSent(p *progress.Record, now int64) int64 {
	if sends := p.Sends.Load(); b.sends.Swap(sends) != sends {
		b.at.Store(now - 1)
	}
	return b.at.Load()
}

// beatDue reports whether the call is due for a beat. The first beat is the beginning of
// the answer.
func (w *watched) beatDue(now int64) bool {
	b := w.beats
	if b == nil || w.progress.Sending.Load() != 0 {
		return false
	}
	last, every := b.lastSent(&w.progress, now), b.in.beatEvery()
	return every > 0 && elapsed(now, max(int64(w.began), last)) >= every
}

// start has a beat written. It returns false after the end of the server.
func (b *beats) start() bool {
	c := b.h.call
	return c.s.sockets.Start(func() {
		if err := b.one(); err != nil && !errors.Is(err, socket.ErrEnded) {
			c.cancel(err)
		}
	})
}

// one writes a beat, unless the call has gone on meanwhile. It returns why the call must
// end, or nil.
func (b *beats) one() (err error) {
	c := b.h.call
	defer c.catch("a heart-beat", &err)
	err = b.h.guard.WriteBetween(func() error {
		if !c.beatDue(c.s.registry.now()) {
			return nil
		}
		c.progress.BeginSend()
		defer c.progress.EndSend()
		return b.in.beat()
	})
	if err != nil && !errors.Is(err, socket.ErrEnded) {
		err = writeFault(err)
	}
	return err
}

// goesOn notes that a message is written, since a beat may have been under way.
func (h *httpStream) goesOn() {
	if h.call.beats != nil {
		h.call.progress.SentPiece()
	}
}

// beatEvery is for events and lines. Until the call is authorized and has its route, culvert
// can still refuse it with an HTTP status.
func (l *linesStream) beatEvery() time.Duration {
	if m := l.call.chosen.Load().bare(); m != nil {
		return m.Heartbeat
	}
	return 0
}

// beat sends a comment or an empty line. An event's end has an empty line of its own: to
// some clients another one is an event without data.
func (l *linesStream) beat() error {
	h, e := &l.httpStream, &l.answer
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
	return h.flush()
}

// beatEvery is for gRPC-Web, in which a refusal has no HTTP status of its own.
func (*grpcStream) beatEvery() time.Duration { return codec.HeartbeatEvery }

// beat sends a frame without payload. It may begin the answer before there is metadata.
func (g *grpcStream) beat() error {
	h := &g.httpStream
	if !h.out.begun {
		h.w.Header()[codec.Heartbeat] = headerLate
		g.answer.begin(h, codec.Fields(nil), false)
	}
	return g.answer.frame(h, codec.FlagHeader, nil, false)
}

// These header values are never written to.
var headerWhole, headerLate = []string{codec.HeaderWhole}, []string{codec.HeaderLate}
