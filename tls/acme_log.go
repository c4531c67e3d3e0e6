package proxytls

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// libraryLog receives the logs of the libraries below. It writes all of them at
// debug level: managed reports the result of a try once, so that it isn't reported
// by every layer that saw it fail.
type libraryLog struct {
	slog.Handler
	redactor
}

func (l libraryLog) Enabled(ctx context.Context, _ slog.Level) bool {
	return l.Handler.Enabled(ctx, slog.LevelDebug)
}

func (l libraryLog) Handle(ctx context.Context, r slog.Record) error {
	quiet := slog.NewRecord(r.Time, slog.LevelDebug, "acme", r.PC)
	quiet.AddAttrs(slog.String("event", l.redact(r.Message)))
	r.Attrs(func(a slog.Attr) bool { quiet.AddAttrs(l.clean(a)); return true })
	return l.Handler.Handle(ctx, quiet)
}

func (l libraryLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = l.clean(a)
	}
	return libraryLog{l.Handler.WithAttrs(clean), l.redactor}
}

func (l libraryLog) WithGroup(name string) slog.Handler {
	return libraryLog{l.Handler.WithGroup(name), l.redactor}
}

// clean returns a without secrets. Values that aren't numbers become text.
func (l libraryLog) clean(a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString, slog.KindAny, slog.KindGroup:
		return slog.String(a.Key, l.redact(v.String()))
	default:
		return slog.Attr{Key: a.Key, Value: v}
	}
}

// newZap returns a zap logger, which certmagic needs, that writes to the handler of the
// moment.
func newZap(to func() slog.Handler) *zap.Logger { return zap.New(zapCore{handler: to}) }

// A zapCore passes zap's entries to a slog.Handler.
type zapCore struct {
	handler func() slog.Handler
	fields  []zapcore.Field
}

func (c zapCore) Enabled(zapcore.Level) bool {
	return c.handler().Enabled(context.Background(), slog.LevelDebug)
}

func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(slices.Clip(c.fields), fields...)
	return c
}

func (c zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.fields), fields...) {
		f.AddTo(values)
	}
	r := slog.NewRecord(e.Time, slog.LevelDebug, e.Message, 0)
	for _, key := range slices.Sorted(maps.Keys(values.Fields)) {
		r.AddAttrs(slog.Any(key, values.Fields[key]))
	}
	return c.handler().Handle(context.Background(), r)
}

func (c zapCore) Sync() error { return nil }
