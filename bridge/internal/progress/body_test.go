package progress

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRequestBodyNotesItsEnd(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"EOF alone":      strings.NewReader("hello"),
		"EOF with bytes": iotest.DataErrReader(strings.NewReader("hello")),
	} {
		b := NewBody(io.NopCloser(body), 5)
		if b.AtEnd.Load() {
			t.Errorf("%s: at its end before it is read", name)
		}
		if got, err := io.ReadAll(b); string(got) != "hello" || err != nil || !b.AtEnd.Load() {
			t.Errorf("%s: read %q, %v, at its end: %v", name, got, err, b.AtEnd.Load())
		}
	}
	b := NewBody(io.NopCloser(iotest.ErrReader(errors.New("reset"))), -1)
	if _, err := io.ReadAll(b); err == nil || b.AtEnd.Load() {
		t.Errorf("a body that broke off: %v, at its end: %v", err, b.AtEnd.Load())
	}
	if b := NewBody(http.NoBody, 0); !b.AtEnd.Load() {
		t.Error("a body of 0 bytes isn't at its end")
	}
}
