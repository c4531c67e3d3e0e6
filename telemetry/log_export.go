package telemetry

import (
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Lines exports the lines of the log by OTLP. Its methods may be called concurrently. Lines may be
// added before it is open: the log is older than all else of a program.
type Lines struct{ queue *itemQueue }

// NewLines returns Lines that keep a bounded number of lines until Open. Close must follow.
func NewLines() *Lines { return &Lines{newItemQueue()} }

// Open begins to export to the receiver. It doesn't wait for the receiver. log must not export:
// lines about exports that fail would make more of them.
func (l *Lines) Open(to Receiver, log *slog.Logger) error {
	e, err := to.open(signalLogs, log)
	if err == nil {
		l.queue.start(e)
	}
	return err
}

// Close exports the lines that wait, for as long as patience lasts. Without Open, it drops them.
func (l *Lines) Close(patience time.Duration) { l.queue.close(patience) }

// SetHeaders replaces the headers of the requests to the receiver, such as a token that has a new
// value. It must not be called before Open.
func (l *Lines) SetHeaders(all map[string]string) { l.queue.to.setHeaders(all) }

// Exports returns the counts of lines. It must not be called before Open.
func (l *Lines) Exports() Exports { return l.queue.to.exports(l.queue.overflowed.Load()) }

// maxLineText is the most that an exported line holds of a text, and maxLineBytes of all. A line
// with a panic's stack is long.
const (
	maxLineText  = 16 << 10
	maxLineBytes = 64 << 10
)

// Add takes a copy of a line, or drops it if there is no room.
func (l *Lines) Add(at time.Time, level slog.Level, msg string, attrs []slog.Attr) {
	b := itemPool.Get().(*itemBuffer) //nolint:forcetypeassert // nothing else is in the pool
	l.queue.add(lineOf(b.m[:0], at, level, msg, attrs))
	itemPool.Put(b)
}

// lineOf writes a line. A trace's ids are fields of their own.
func lineOf(m message, at time.Time, level slog.Level, msg string, attrs []slog.Attr) message {
	m = m.at(lineTime, at).at(lineObserved, at)
	m = m.number(lineSeverity, uint64(min(max(int(level)+severityOfInfo, 1), maxSeverity))).text(lineSeverityName, level.String())
	msg = lineText(msg)
	m = protowire.AppendVarint(protowire.AppendTag(m, lineBody, protowire.BytesType), uint64(1+protowire.SizeBytes(len(msg))))
	m = protowire.AppendString(protowire.AppendTag(m, textValue, protowire.BytesType), msg)
	for i := range attrs {
		m = m.lineAttribute("", &attrs[i])
	}
	return m
}

// OpenTelemetry's severities have the distances of slog's levels.
// https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber
const (
	severityOfInfo = 9
	maxSeverity    = 24
)

// lineAttribute writes an attribute of a line. Those of a group have its name before theirs.
func (m message) lineAttribute(group string, a *slog.Attr) message {
	if a.Equal(slog.Attr{}) || len(m) > maxLineBytes {
		return m
	}
	key, v := a.Key, a.Value
	if group != "" {
		key = group + "." + key
	}
	if len(key) > maxKeyBytes || !utf8.ValidString(key) {
		return m.pair(lineAttributes, lineText(key), lineText(v.String()))
	}
	switch v.Kind() {
	case slog.KindString:
		return m.lineTextAttribute(key, v.String())
	case slog.KindInt64:
		return m.count(lineAttributes, key, v.Int64())
	case slog.KindFloat64:
		return m.decimal(lineAttributes, key, v.Float64())
	case slog.KindBool:
		return m.truth(lineAttributes, key, v.Bool())
	case slog.KindUint64:
		if v.Uint64() <= math.MaxInt64 {
			return m.count(lineAttributes, key, int64(v.Uint64()))
		}
	case slog.KindGroup:
		if a.Key == "" {
			key = group
		}
		for _, inner := range v.Group() {
			m = m.lineAttribute(key, &inner)
		}
		return m
	case slog.KindTime:
		return m.pair(lineAttributes, key, v.Time().Format(time.RFC3339Nano))
	case slog.KindLogValuer:
		resolved := slog.Attr{Key: a.Key, Value: v.Resolve()}
		return m.lineAttribute(group, &resolved)
	case slog.KindAny, slog.KindDuration:
	}
	return m.pair(lineAttributes, key, lineText(fmt.Sprint(v.Any())))
}

func (m message) lineTextAttribute(key, text string) message {
	switch {
	case key == "trace_id" && len(text) == 32:
		return m.id(lineTrace, text)
	case key == "span_id" && len(text) == 16:
		return m.id(lineSpan, text)
	}
	return m.pair(lineAttributes, key, lineText(text))
}

// lineText returns a text in the length for an exported line, in UTF-8 as protobuf wants it.
func lineText(text string) string {
	if len(text) > maxLineText {
		text = text[:maxLineText] + "…"
	}
	if !utf8.ValidString(text) {
		return strings.ToValidUTF8(text, "\ufffd")
	}
	return text
}
