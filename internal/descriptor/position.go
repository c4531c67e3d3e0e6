package descriptor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// protobuf's errors begin with "proto:", and a space or one that looks like it, so that
// nobody depends on the text. Most have the place: "(line 1:8): invalid value".
var (
	errorPrefix = regexp.MustCompile(`^proto:[\s\x{a0}]*`)
	errorPlace  = regexp.MustCompile(`^(?:syntax error[\s\x{a0}]*)?\(line (\d+):(\d+)\):[\s\x{a0}]*`)
)

func withoutPrefix(err error) string {
	text := err.Error()
	return strings.ReplaceAll(text[len(errorPrefix.FindString(text)):], "\u00a0", " ")
}

// newReadError returns protojson's error about a text, with the path of the field.
func newReadError(text []byte, err error) *ReadError {
	e := &ReadError{Text: cut(withoutPrefix(err))}
	m := errorPlace.FindStringSubmatch(e.Text)
	switch {
	case m != nil:
	case e.Text != "unexpected EOF":
		return e
	case json.Valid(text): // at its end, protojson waits for the other half
		return readErrorAt(text, bytes.LastIndex(text, []byte(`\u`)), "has half of a surrogate pair")
	default:
		return readErrorAt(text, len(text), "the text ends too early")
	}
	e.Text = e.Text[len(m[0]):]
	e.Line, _ = strconv.Atoi(m[1]) // digits
	e.Column, _ = strconv.Atoi(m[2])
	e.Path = pathTo(text, offsetOf(text, e.Line, e.Column))
	return e
}

// cut bounds the quoted part of a text that a client sent.
func cut(text string) string {
	if len(text) <= maxQuote {
		return text
	}
	return strings.ToValidUTF8(text[:maxQuote], "") + "…"
}

// readErrorAt returns an error about the byte at an offset.
func readErrorAt(text []byte, at int, what string) *ReadError {
	before := text[:at]
	start := bytes.LastIndexByte(before, '\n') + 1
	return &ReadError{
		Text: what, Line: 1 + bytes.Count(before, []byte("\n")), Column: 1 + utf8.RuneCount(before[start:]),
		Path: pathTo(text, at),
	}
}

// offsetOf returns the offset of a line and a column, which counts characters.
func offsetOf(text []byte, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return len(text)
		}
		at += next + 1
	}
	for ; column > 1 && at < len(text); column-- {
		_, n := utf8.DecodeRune(text[at:])
		at += n
	}
	return at
}

// These keep errors short, whatever a client sends: about a deeply nested or long-named
// field, and about a long value.
const (
	maxPath  = 200
	maxQuote = 300
)

// A level is an object or a list around a place in a JSON text.
type level struct {
	list  bool
	index int    // of a list: that of the value that comes next
	named bool   // of an object: key is that of the value that comes next
	key   string // of an object
}

// pathTo returns the path of the field or list entry that an offset of a JSON text
// belongs to. Of a text that isn't JSON, it goes as far as the text is.
func pathTo(text []byte, at int) string {
	levels := []level{{}} // around the whole text; it has no name
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for len(levels) <= maxDepth {
		token, err := d.Token()
		if err != nil {
			break
		}
		inside, here := d.InputOffset() > int64(at), &levels[len(levels)-1]
		if key, ok := token.(string); ok && !here.list && !here.named && len(levels) > 1 {
			here.named, here.key = true, key
			if inside {
				break
			}
			continue
		}
		if inside {
			break
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			levels = append(levels, level{list: token == json.Delim('[')})
			continue
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
		around := &levels[len(levels)-1] // one of its values has ended
		around.index++
		around.named = false
	}
	return joined(levels)
}

func joined(levels []level) string {
	var path strings.Builder
	for _, l := range levels[1:] {
		switch {
		case l.list:
			fmt.Fprintf(&path, "[%d]", l.index)
		case l.named && path.Len() > 0:
			path.WriteString("." + l.key)
		case l.named:
			path.WriteString(l.key)
		}
		if path.Len() > maxPath {
			return strings.ToValidUTF8(path.String()[:maxPath], "") + "…"
		}
	}
	return path.String()
}
