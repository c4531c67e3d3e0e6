package logs

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"testing"
	"time"
)

// FuzzJSONLines compares each line with slog's.
func FuzzJSONLines(f *testing.F) {
	f.Add("call", "cause", "it ended", int64(1), 1.5, true, int64(1), 0)
	f.Add("call", "cause", hostile, int64(math.MinInt64), 0.0, false, int64(-62135596800), 4)
	f.Add("", "", `a "quote" and a \`, int64(0), math.Inf(1), false, int64(1)<<40, -8)
	f.Add("<&>", "é", "", int64(-1), 1e-7, true, int64(0), 1)
	f.Add("call", "duration_ms", "\x7f", int64(math.MaxInt64), 1e21, true, int64(-1)<<40, 8)
	f.Add("call", "duration_ms", "~ ", int64(7), math.Copysign(0, -1), true, int64(253402300800), 0)
	f.Fuzz(func(t *testing.T, msg, key, text string, n int64, x float64, yes bool, at int64, level int) {
		when := time.Unix(at, n)
		for name, attrs := range map[string][]slog.Attr{
			"plain kinds": {slog.String(key, text), slog.Int64(key, n), slog.Float64(key, x), slog.Bool(key, yes), slog.String("peer", "127.0.0.1:80"), slog.String(msg, key)},
			"other kinds": {slog.String("peer", "127.0.0.1:80"), slog.Any(key, text), slog.Uint64(key, uint64(n)), slog.Duration(key, time.Duration(n)), slog.Time(key, when), slog.Group(key, slog.String(text, msg)), {}},
			"none":        nil,
			"an empty":    {{}},
			"with a key":  {{Key: key}},
		} {
			for _, when := range []time.Time{when, {}} {
				r := slog.NewRecord(when, slog.Level(level), msg, 0)
				r.AddAttrs(attrs...)
				if got, want := lineOf(t, newJSONHandler, r), lineOf(t, slogHandler, r); got != want {
					t.Errorf("%s:\n%s\nslog writes\n%s", name, got, want)
				}
			}
		}
	})
}

func slogHandler(out io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(escaping{out}, &slog.HandlerOptions{Level: level})
}

// lineOf returns a handler's line for a record, and that of one of its loggers with attributes.
func lineOf(t *testing.T, handler func(io.Writer, slog.Leveler) slog.Handler, r slog.Record) string {
	t.Helper()
	var out bytes.Buffer
	h := handler(&out, slog.LevelDebug)
	for _, h := range []slog.Handler{h, h.WithAttrs([]slog.Attr{slog.Bool("also", true)}), h.WithGroup("group")} {
		if err := h.Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// The line of a call is plain: slog's own handler allocates.
func TestPlainLinesAllocateNothing(t *testing.T) {
	h := newJSONHandler(io.Discard, slog.LevelInfo)
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "call", 0)
	r.AddAttrs(slog.String("method", "/a.B/C"), slog.Int64("messages_in", 1), slog.Float64("duration_ms", 1.25))
	if n := testing.AllocsPerRun(1000, func() { _ = h.Handle(context.Background(), r) }); n >= 1 {
		t.Errorf("a line takes %v allocations", n)
	}
}
