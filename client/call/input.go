package call

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A value is one JSON value of the input.
type value struct {
	text   []byte
	line   int // where it begins, from 1
	column int // in characters, from 1
}

// An inputError says what is wrong with the input, and where.
type inputError struct {
	source       string
	line, column int
	what         string
}

func (e *inputError) Error() string {
	return fmt.Sprintf("%s, line %d, column %d: %s", e.source, e.line, e.column, e.what)
}

// values reads JSON values one after another, as soon as each is complete.
type values struct {
	source string
	read   chan value    // closed at the input's end, after err is set
	stop   chan struct{} // closed when nobody reads any more
	err    error
}

// newValues begins to read, and closes its input at the end. Its goroutine ends with the input or
// once stop is closed, except that it may still wait for a terminal or a pipe then: nothing can
// interrupt that.
func newValues(from io.ReadCloser, source string) *values {
	v := &values{source: source, read: make(chan value), stop: make(chan struct{})}
	go v.run(from)
	return v
}

func (v *values) run(from io.ReadCloser) {
	defer close(v.read)
	defer from.Close()
	p := &position{source: v.source, line: 1, column: 1}
	d := json.NewDecoder(io.TeeReader(&unmarked{from, "\ufeff"}, p))
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			v.err = p.mistake(err)
			return
		}
		p.goTo(d.InputOffset() - int64(len(raw)))
		if len(raw) > maxMessageBytes {
			v.err = &inputError{v.source, p.line, p.column, fmt.Sprintf("the value is over the limit of %d MiB", maxMessageBytes>>20)}
			return
		}
		next := value{raw, p.line, p.column}
		p.goTo(d.InputOffset())
		select {
		case v.read <- next:
		case <-v.stop:
			return
		}
	}
}

// An unmarked reader leaves out a byte order mark at the beginning, as Windows writes it.
type unmarked struct {
	io.Reader
	mark string // what of it may still come
}

func (u *unmarked) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	from := 0
	for from < n && u.mark != "" && b[from] == u.mark[0] {
		from, u.mark = from+1, u.mark[1:]
	}
	if from < n {
		u.mark = ""
	}
	return copy(b, b[from:n]), err
}

// A position follows the lines and columns of a text that is read.
type position struct {
	source       string
	seen         bytes.Buffer // from offset on
	offset       int64
	line, column int
}

// Write takes what was read. It fails if a value is far too long: it would be held whole.
func (p *position) Write(b []byte) (int, error) {
	if p.seen.Len()+len(b) > maxMessageBytes+maxErrorBytes {
		return 0, &inputError{p.source, p.line, p.column, fmt.Sprintf("the value is over the limit of %d MiB", maxMessageBytes>>20)}
	}
	return p.seen.Write(b) // never fails
}

// goTo moves to an offset that has been seen.
func (p *position) goTo(offset int64) {
	for _, r := range string(p.seen.Next(int(offset - p.offset))) {
		p.column++
		if r == '\n' {
			p.line, p.column = p.line+1, 1
		}
	}
	p.offset = offset
}

// mistake returns an error about the text, or about reading it.
func (p *position) mistake(err error) error {
	if e, ok := errors.AsType[*inputError](err); ok {
		return e
	}
	syntax, isSyntax := errors.AsType[*json.SyntaxError](err)
	switch {
	case isSyntax:
		begun := *p
		begun.seen = *bytes.NewBuffer(bytes.Clone(p.seen.Bytes()))
		begun.goTo(max(p.offset, syntax.Offset-1))
		return &inputError{p.source, begun.line, begun.column, "not JSON: " + strings.TrimPrefix(syntax.Error(), "json: ")}
	case errors.Is(err, io.ErrUnexpectedEOF):
		rest := p.seen.Bytes()
		blank := len(rest) - len(bytes.TrimLeft(rest, " \t\r\n"))
		p.goTo(p.offset + int64(blank))
		return &inputError{p.source, p.line, p.column, "the JSON value that begins here has no end"}
	}
	return fmt.Errorf("%s: %w", p.source, err)
}

// openInput returns the input that -d names: JSON text, "@file", "@-" or "@" for standard input.
func openInput(data string, stdin io.Reader) (from io.ReadCloser, source string, err error) {
	name, isFile := strings.CutPrefix(data, "@")
	switch {
	case !isFile:
		return io.NopCloser(strings.NewReader(data)), "-d", nil
	case name == "-" || name == "":
		return io.NopCloser(stdin), stdinName, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, "", fmt.Errorf("-d: %w", err)
	}
	return f, name, nil
}

// within returns where a place in a value is in the input.
func (v value) within(line, column int) (int, int) {
	if line == 1 {
		return v.line, v.column + column - 1
	}
	return v.line + line - 1, column
}

const stdinName = "standard input"
