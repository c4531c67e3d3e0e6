package call

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A printer prints what a call gives: replies to standard output, everything else to standard
// error; or JSON lines to standard output. Several goroutines may use it.
type printer struct {
	cfg Config

	mu     sync.Mutex
	failed error // of writing: nobody reads any more
}

// shared is a writer that a trace and a printer share.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// note prints a remark, in either form of output.
func (p *printer) note(format string, args ...any) {
	fmt.Fprintf(p.cfg.Stderr, "culvert: %s\n", terminal.Text(fmt.Sprintf(format, args...)))
}

func (p *printer) json(text []byte) error { return p.print(string(terminal.AppendJSON(nil, text))) }

func (p *printer) print(text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		if _, err := io.WriteString(p.cfg.Stdout, text); err != nil {
			p.failed = fmt.Errorf("standard output: %w", err)
		}
	}
	return p.failed
}

// line prints a JSON line.
func (p *printer) line(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("BUG: %w", err)
	}
	return p.json(b.Bytes())
}

// either prints a text, or the same as a JSON line.
func (p *printer) either(text string, v any) error {
	if p.cfg.JSON {
		return p.line(v)
	}
	return p.print(terminal.Lines(text))
}

func (p *printer) header(md metadata.MD) error {
	if !p.cfg.JSON {
		return nil
	}
	return p.line(map[string]any{"header": shownMetadata(md)})
}

// reply prints a message in JSON.
func (p *printer) reply(text []byte) error {
	if p.cfg.JSON {
		return p.line(map[string]json.RawMessage{"message": text})
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("a reply isn't JSON: %w", err)
	}
	b.WriteByte('\n')
	return p.json(b.Bytes())
}

// A toldStatus is a status in JSON.
type toldStatus struct {
	Code    codes.Code        `json:"code"`
	Name    string            `json:"name"`
	Message string            `json:"message,omitempty"`
	Details []json.RawMessage `json:"details,omitempty"`
}

// status prints the end of a call, and returns a *StatusError unless it is OK.
func (p *printer) status(st *status.Status, trailer metadata.MD, details []json.RawMessage) error {
	told := toldStatus{st.Code(), codec.StatusName(st.Code()), st.Message(), details}
	if p.cfg.JSON {
		if err := p.line(map[string]any{"trailer": shownMetadata(trailer), "status": told}); err != nil {
			return err
		}
	}
	if st.Code() == codes.OK {
		return nil
	}
	if !p.cfg.JSON {
		text := fmt.Sprintf("the call ended with %s (%d)", told.Name, told.Code)
		if told.Message != "" {
			text += ": " + told.Message
		}
		p.note("%s", text)
		for _, d := range details {
			p.note("  detail: %s", d)
		}
	}
	return &StatusError{st}
}

// end prints an error as the last JSON line. Otherwise it is the program's to print.
func (p *printer) end(err error) {
	var told *StatusError
	if err == nil || !p.cfg.JSON || errors.As(err, &told) {
		return
	}
	_ = p.line(map[string]string{"error": err.Error()}) // there is no other place to say that it failed
}
