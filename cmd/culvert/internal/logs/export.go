package logs

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// An Exporter gets the lines of a log, besides whoever reads it. Add must neither wait nor keep
// attrs, and may be called concurrently.
type Exporter interface {
	Add(at time.Time, level slog.Level, msg string, attrs []slog.Attr)
}

// An exporting handler gives lines to an exporter, and then to the handler that writes them.
type exporting struct {
	slog.Handler
	to     Exporter
	own    []slog.Attr // of a logger with attributes of its own
	groups []string    // that a logger has begun
}

// An attrHandler is a handler that needs no record; see telemetry.
type attrHandler interface {
	HandleAttrs(ctx context.Context, at time.Time, level slog.Level, msg string, attrs []slog.Attr) error
}

var _ attrHandler = exporting{}

func (h exporting) Handle(ctx context.Context, r slog.Record) error {
	attrs := make([]slog.Attr, 0, len(h.own)+r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	h.to.Add(r.Time, r.Level, r.Message, slices.Concat(h.own, h.inGroups(attrs)))
	return h.Handler.Handle(ctx, r)
}

// HandleAttrs is Handle of a record of the attributes, and keeps none of them.
func (h exporting) HandleAttrs(ctx context.Context, at time.Time, level slog.Level, msg string, attrs []slog.Attr) error {
	direct, ok := h.Handler.(attrHandler)
	if !ok || len(h.own)+len(h.groups) > 0 {
		r := slog.NewRecord(at, level, msg, 0)
		r.AddAttrs(attrs...)
		return h.Handle(ctx, r)
	}
	h.to.Add(at, level, msg, attrs)
	return direct.HandleAttrs(ctx, at, level, msg, attrs)
}

func (h exporting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return exporting{h.Handler.WithAttrs(attrs), h.to, slices.Concat(h.own, h.inGroups(attrs)), h.groups}
}

func (h exporting) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return exporting{h.Handler.WithGroup(name), h.to, h.own, append(slices.Clip(h.groups), name)}
}

// inGroups returns the attributes as they are in the groups that the logger has begun.
func (h exporting) inGroups(attrs []slog.Attr) []slog.Attr {
	for _, name := range slices.Backward(h.groups) {
		attrs = []slog.Attr{{Key: name, Value: slog.GroupValue(attrs...)}}
	}
	return attrs
}
