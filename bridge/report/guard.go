package report

import (
	"context"
	"log/slog"
)

// Guard returns an Observer that catches the panics of o in the events of connections and
// requests. A call catches those in its own events.
func (p *Panics) Guard(o Observer) Observer { return &guarded{o, p} }

type guarded struct {
	Observer
	panics *Panics
}

const observer = "the Observer"

func (g *guarded) ConnBegan(c ConnInfo) {
	defer g.panics.Catch(observer, nil)
	g.Observer.ConnBegan(c)
}

func (g *guarded) ConnEnded(c ConnInfo) {
	defer g.panics.Catch(observer, nil)
	g.Observer.ConnEnded(c)
}

func (g *guarded) Refused(r Refusal) {
	defer g.panics.Catch(observer, nil)
	g.Observer.Refused(r)
}

func (g *guarded) WebEnded(w *WebInfo) {
	defer g.panics.Catch(observer, nil)
	g.Observer.WebEnded(w)
}

// GuardLog returns a Logger that counts the panics of l's handler, and loses the lines in
// which it panics.
func (p *Panics) GuardLog(l *slog.Logger) *slog.Logger {
	return slog.New(guardedHandler{l.Handler(), p})
}

// GuardWords returns words that catch the panics of w, and say the fields of Config then.
func (p *Panics) GuardWords(w Words) Words {
	if w == nil {
		return nil
	}
	return func(key, value string, set bool) (said string) {
		defer p.Catch("Words", func(*Fault) { said = Words(nil).said(key, value, set) })
		return w(key, value, set)
	}
}

type guardedHandler struct {
	slog.Handler
	panics *Panics
}

// lose ends a panic of the handler. It must be deferred itself.
func (h guardedHandler) lose() {
	if recover() != nil {
		h.panics.count.Add(1)
	}
}

func (h guardedHandler) Enabled(ctx context.Context, l slog.Level) bool {
	defer h.lose()
	return h.Handler.Enabled(ctx, l)
}

func (h guardedHandler) Handle(ctx context.Context, r slog.Record) error {
	defer h.lose()
	return h.Handler.Handle(ctx, r)
}

func (h guardedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return guardedHandler{h.with(func() slog.Handler { return h.Handler.WithAttrs(attrs) }), h.panics}
}

func (h guardedHandler) WithGroup(name string) slog.Handler {
	return guardedHandler{h.with(func() slog.Handler { return h.Handler.WithGroup(name) }), h.panics}
}

// with returns the handler that f makes, or this one.
func (h guardedHandler) with(f func() slog.Handler) (made slog.Handler) {
	made = h.Handler
	defer h.lose()
	return f()
}
