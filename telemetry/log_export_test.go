package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// TestShapesOfLines is golden: of each level and each kind of attribute.
func TestShapesOfLines(t *testing.T) {
	at := time.Unix(5, 7)
	for _, c := range []struct {
		level slog.Level
		msg   string
		attrs []slog.Attr
		want  string
	}{
		{slog.LevelInfo, "call", []slog.Attr{slog.String("call_id", "c1"), slog.Int64("n", -3), slog.Float64("duration_ms", 1.25), slog.Bool("tls", true)}, `9 INFO call call_id="c1" n=-3 duration_ms=1.25 tls=true`},
		{slog.LevelInfo, "call", []slog.Attr{slog.String("trace_id", strings.Repeat("ab", 16)), slog.String("span_id", strings.Repeat("cd", 8))}, "9 INFO call 9:" + strings.Repeat("ab", 16) + " 10:" + strings.Repeat("cd", 8)},
		{slog.LevelDebug, "", []slog.Attr{slog.String("empty", ""), {}, slog.String("trace_id", "none")}, `5 DEBUG  empty="" trace_id="none"`},
		{slog.LevelWarn, "m", []slog.Attr{slog.Any("cause", errors.New("no\xff")), slog.Duration("d", time.Second), slog.Time("t", time.Unix(0, 0).UTC())}, `13 WARN m cause="no` + "\ufffd" + `" d="1s" t="1970-01-01T00:00:00Z"`},
		{slog.LevelError + 1, "m", []slog.Attr{slog.Group("g", slog.Int("a", 1), slog.Group("h", slog.Uint64("b", math.MaxUint64))), slog.Group("", slog.Int("c", 2))}, `18 ERROR+1 m g.a=1 g.h.b="18446744073709551615" c=2`},
		{1000, "m", nil, `24 ERROR+992 m`},
		{-1000, "m", nil, `1 DEBUG-996 m`},
	} {
		if got := readLine(t, lineOf(nil, at, c.level, c.msg, c.attrs)); got != "5000000007 "+c.want {
			t.Errorf("got  %s\nwant 5000000007 %s", got, c.want)
		}
	}
}

// FuzzLine: whatever a peer sends, a line is bounded and can be read.
func FuzzLine(f *testing.F) {
	f.Add("call", "cause", "it ended", uint16(1), int64(1), 1.5)
	f.Add("\xff", strings.Repeat("k", 200), "\xe2\x82", uint16(20_000), int64(-1), math.Inf(1))
	f.Add("", "trace_id", "zz", uint16(16), int64(0), 0.0)
	f.Fuzz(func(t *testing.T, msg, key, text string, times uint16, n int64, x float64) {
		if len(text) > 1000 {
			return // times makes long ones
		}
		text = strings.Repeat(text, int(times))
		attrs := []slog.Attr{slog.String(key, text), slog.Int64(key, n), slog.Float64(key, x), slog.Any(key, errors.New(text)), slog.Group(key, slog.String(text, text))}
		for range 3 {
			attrs = append(attrs, attrs...)
		}
		m := lineOf(nil, time.Unix(0, n&math.MaxInt64), slog.LevelInfo, msg, attrs)
		if len(m) > maxLineBytes+5*maxLineText {
			t.Errorf("a line has %d bytes", len(m))
		}
		for _, f := range fieldsOf(t, m) {
			if f.number == lineAttributes {
				for _, part := range fieldsOf(t, f.bytes) {
					if part.number == keyOfValue && !utf8.Valid(part.bytes) {
						t.Errorf("the key %q isn't UTF-8", part.bytes)
					}
				}
			}
		}
		readLine(t, m)
	})
}

// TestLinesBeforeTheReceiver wait for it, in bounded memory.
func TestLinesBeforeTheReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{requests: make(chan []byte, 100)}
		l := NewLines()
		l.Add(time.Now(), slog.LevelInfo, "first", nil)
		big := []slog.Attr{slog.String("text", strings.Repeat("x", maxLineText))}
		for range 2 * maxBatches * batchBytes / maxLineText {
			l.Add(time.Now(), slog.LevelInfo, "big", big)
		}
		l.queue.start(exporterTo(r, new(bytes.Buffer)))
		l.Close(time.Second)
		items := itemsOf(t, <-r.requests)
		if got := readLine(t, items[0]); !strings.HasSuffix(got, " INFO first") {
			t.Errorf("the first line is %s", got)
		}
		e := l.Exports()
		if want := int64(2*maxBatches*batchBytes/maxLineText + 1); len(r.requests) != maxBatches-1 || e.Overflowed == 0 || e.Exported+e.Overflowed != want {
			t.Errorf("%d more requests, %+v, of %d lines", len(r.requests), e, want)
		}
		unopened := NewLines()
		unopened.Add(time.Now(), slog.LevelInfo, "m", nil)
		unopened.Close(time.Second)
	})
}
