// Package logs writes the log of the program: its lines as text or JSON, in a queue, so that
// nothing waits for the reader of the log.
package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"golang.org/x/term"

	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A Log has the loggers of a program.
type Log struct {
	*slog.Logger               // every line but those of calls
	Calls        *slog.Logger  // lines of single calls, which may wait for a moment where no person watches
	Local        *slog.Logger  // lines that aren't exported: those about exports
	Level        slog.LevelVar // the lowest level of both; may be set at any time, from any goroutine
	queue        *queue
}

// Open returns the log of the configuration. The caller closes it.
// Text from peers can't control a terminal in either format: slog's text
// handler quotes characters that aren't printable, and escaping escapes them
// in JSON. The exporter, if it isn't nil, gets the lines, too.
func Open(w io.Writer, c config.Log, to Exporter) *Log {
	q := newQueue(w, func(dropped int, cause error) []byte { return droppedLine(w, c, dropped, cause) })
	l := &Log{queue: q}
	l.SetLevel(c)
	l.Logger = slog.New(newHandler(w, q, c, &l.Level))
	l.Calls, l.Local = l.Logger, l.Logger
	if !isTerminal(w) {
		l.Calls = slog.New(newHandler(w, q.calls(), c, &l.Level))
	}
	if to != nil {
		l.Logger = slog.New(exporting{Handler: l.Logger.Handler(), to: to})
		l.Calls = slog.New(exporting{Handler: l.Calls.Handler(), to: to})
	}
	return l
}

// SetLevel sets the lowest level to that of a checked configuration.
func (l *Log) SetLevel(c config.Log) {
	if err := l.Level.UnmarshalText([]byte(c.Level)); err != nil {
		panic("BUG: a checked log level is none: " + err.Error())
	}
}

// Close writes the lines that wait. It waits for them for the patience at most.
func (l *Log) Close(patience time.Duration) { l.queue.close(patience) }

// Last writes a text after the lines of the log, as it is.
func (l *Log) Last(text string) { _, _ = l.queue.Write([]byte(text)) } // a queue takes every line

// Dropped returns how many lines were lost since the start, because they didn't fit or
// because a write failed.
func (l *Log) Dropped() int64 { return l.queue.droppedInAll() }

// droppedLine returns the log line about dropped lines, for every log level.
func droppedLine(w io.Writer, c config.Log, dropped int, cause error) []byte {
	var line bytes.Buffer
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were dropped: nobody read the log", 0)
	r.AddAttrs(slog.Int("dropped", dropped))
	if cause != nil {
		r.AddAttrs(slog.String("cause", cause.Error()))
	}
	_ = newHandler(w, &line, c, slog.LevelWarn).Handle(context.Background(), r) // a buffer takes every line
	return line.Bytes()
}

// newHandler returns the handler for w that writes to out.
func newHandler(w, out io.Writer, c config.Log, level slog.Leveler) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	switch {
	case c.Format == "json", c.Format == "auto" && !isTerminal(w):
		return newJSONHandler(out, level)
	case HasColour(w):
		return slog.NewTextHandler(colouring{out}, options)
	default:
		return slog.NewTextHandler(out, options)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// HasColour reports whether w shows ANSI colours and the user wants them.
// https://no-color.org
func HasColour(w io.Writer) bool {
	old := runtime.GOOS == "windows" && os.Getenv("WT_SESSION") == "" && os.Getenv("TERM") == ""
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && !old
}

// escaping escapes all characters in a handler's JSON lines that aren't
// printable.
type escaping struct{ w io.Writer }

func (e escaping) Write(line []byte) (int, error) {
	if _, err := e.w.Write(terminal.AppendJSON(make([]byte, 0, len(line)+64), line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// colouring adds the colour of the level to a handler's text lines. The time
// before the level has no blank, so the level begins after the first blank.
type colouring struct{ w io.Writer }

var levelColours = map[string]string{
	"DEBUG": "\x1b[2m",  // dim
	"INFO":  "\x1b[32m", // green
	"WARN":  "\x1b[33m", // yellow
	"ERROR": "\x1b[31m", // red
}

func (c colouring) Write(line []byte) (int, error) {
	before, rest, _ := bytes.Cut(line, []byte(" level="))
	level, after, found := bytes.Cut(rest, []byte(" "))
	colour, known := levelColours[string(level)]
	if !found || !known {
		return c.w.Write(line)
	}
	if _, err := fmt.Fprintf(c.w, "%s level=%s%s\x1b[0m %s", before, colour, level, after); err != nil {
		return 0, err
	}
	return len(line), nil
}
