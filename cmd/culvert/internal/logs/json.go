package logs

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"
)

// A jsonHandler writes what slog's JSON handler writes. It makes the lines of plain
// records itself, as every call's is, and leaves others to slog's handler, which takes a
// twentieth of a unary call's instructions for its line.
type jsonHandler struct {
	slog.Handler // slog's, for other records and for loggers with attributes or groups of their own
	out          io.Writer
}

// telemetry looks for this method in a handler.
var _ attrHandler = jsonHandler{}

// newJSONHandler returns a handler whose lines have only characters that are printable.
// out may get lines from several goroutines at a time.
func newJSONHandler(out io.Writer, level slog.Leveler) slog.Handler {
	return jsonHandler{slog.NewJSONHandler(escaping{out}, &slog.HandlerOptions{Level: level}), out}
}

// maxKeptLine is how large a line's buffer may be, in bytes, to be used again.
const maxKeptLine = 16 << 10

var jsonLines = sync.Pool{New: func() any { return new(make([]byte, 0, 1<<10)) }}

func (h jsonHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs := make([]slog.Attr, 0, 20)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	return h.HandleAttrs(ctx, r.Time, r.Level, r.Message, attrs)
}

// HandleAttrs is Handle of a record of the attributes, and keeps none of them. A record's own
// copy of more than 5 takes memory for each line.
func (h jsonHandler) HandleAttrs(ctx context.Context, at time.Time, level slog.Level, msg string, attrs []slog.Attr) error {
	buf := jsonLines.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	line, plain := appendPlainLine((*buf)[:0], at, level, msg, attrs)
	var err error
	if plain {
		_, err = h.out.Write(line)
	}
	if *buf = line; cap(line) <= maxKeptLine {
		jsonLines.Put(buf)
	}
	if plain {
		return err
	}
	r := slog.NewRecord(at, level, msg, 0)
	r.AddAttrs(attrs...)
	return h.Handler.Handle(ctx, r)
}

// appendPlainLine appends a record as slog's JSON handler writes it. It reports whether
// the record is plain: it has a time in a year of four digits, and no texts that JSON
// escapes and no values but texts, numbers and booleans.
func appendPlainLine(line []byte, at time.Time, level slog.Level, msg string, attrs []slog.Attr) (_ []byte, plain bool) {
	if year := at.Year(); at.IsZero() || year < 0 || year > 9999 {
		return line, false
	}
	line = append(line, `{"time":"`...)
	line = at.AppendFormat(line, time.RFC3339Nano)
	line = append(line, `","level":"`...)
	line = append(line, level.String()...)
	line = append(line, `","msg":`...)
	line, plain = appendPlainText(line, msg)
	for i := 0; plain && i < len(attrs); i++ {
		line = append(line, ',')
		if line, plain = appendPlainText(line, attrs[i].Key); plain {
			line, plain = appendPlainValue(append(line, ':'), attrs[i].Value)
		}
	}
	return append(line, "}\n"...), plain
}

func appendPlainValue(line []byte, v slog.Value) (_ []byte, plain bool) {
	switch v.Kind() {
	case slog.KindString:
		return appendPlainText(line, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(line, v.Int64(), 10), true
	case slog.KindFloat64:
		f := v.Float64() // encoding/json writes others with an exponent, or not at all
		return strconv.AppendFloat(line, f, 'f', -1, 64), f == 0 || (math.Abs(f) >= 1e-6 && math.Abs(f) < 1e21)
	case slog.KindBool:
		return strconv.AppendBool(line, v.Bool()), true
	}
	return line, false
}

// appendPlainText appends a text in quotes. Most texts are plain: printable ASCII without
// a character that JSON escapes.
func appendPlainText(line []byte, text string) (_ []byte, plain bool) {
	for i := range len(text) {
		if b := text[i]; b < ' ' || b > '~' || b == '"' || b == '\\' {
			return line, false
		}
	}
	line = append(line, '"')
	line = append(line, text...)
	return append(line, '"'), true
}
