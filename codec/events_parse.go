package codec

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// An Event is one server-sent event.
type Event struct {
	Name string // "": "message", as an EventSource calls it
	Data string // its lines, joined by LF
	ID   string // the last one that the stream has had so far
}

// An EventReader reads server-sent events. It isn't safe for concurrent use.
type EventReader struct {
	r         *bufio.Reader
	max       int
	id        string
	begun     bool // the first line has been read
	skipLF    bool // the last line ended with CR
	onComment func(string)
}

// ErrEventTooLarge reports an event of more bytes than the reader allows.
var ErrEventTooLarge = errors.New("an event is larger than allowed")

// NewEventReader returns a reader of the events in r, each of which has at most max bytes.
// It calls comment, if that isn't nil, with each comment, such as a heart-beat.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
func NewEventReader(r io.Reader, maxBytes int, comment func(text string)) *EventReader {
	return &EventReader{r: bufio.NewReader(r), max: maxBytes, onComment: comment}
}

// Next returns the next event. The error is ErrEventTooLarge, the underlying reader's, or
// io.EOF: an event that the end of the text interrupts is dropped, as a browser drops it.
func (e *EventReader) Next() (Event, error) {
	var name string
	var data []string
	size := 0
	for {
		line, err := e.line(e.max - size)
		if err != nil {
			return Event{}, err
		}
		size += len(line) + 1
		if line == "" {
			if data != nil {
				return Event{name, strings.Join(data, "\n"), e.id}, nil
			}
			name, size = "", 0
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			if e.onComment != nil {
				e.onComment(value)
			}
		case "event":
			name = value
		case "data":
			data = append(data, value)
		case "id":
			if !strings.Contains(value, "\x00") {
				e.id = value
			}
		}
	}
}

// line returns the next line without its end: CR, LF or both. It doesn't wait for a LF behind
// a CR.
func (e *EventReader) line(maxBytes int) (string, error) {
	var line []byte
	for {
		b, err := e.r.ReadByte()
		if err != nil {
			return "", err
		}
		if e.skipLF {
			e.skipLF = false
			if b == '\n' {
				continue
			}
		}
		if b == '\r' || b == '\n' {
			e.skipLF = b == '\r'
			text := string(line)
			if !e.begun {
				text = strings.TrimPrefix(text, "\ufeff")
			}
			e.begun = true
			return text, nil
		}
		if len(line) >= maxBytes {
			return "", ErrEventTooLarge
		}
		line = append(line, b)
	}
}
