package bridge

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestGzipBody(t *testing.T) {
	want := pattern(100 << 10)
	whole := gzipped(want)
	reset := errors.New("connection reset by peer")
	for _, c := range []struct {
		name   string
		body   io.Reader
		reason Reason // empty: it is read whole
	}{
		{"whole", bytes.NewReader(whole), ""},
		{"by bytes", iotest.OneByteReader(bytes.NewReader(whole)), ""},
		{"two members", bytes.NewReader(append(bytes.Clone(gzipped(want[:500])), gzipped(want[500:])...)), ""},
		{"plain", strings.NewReader("not gzip, by any means"), ReasonBadRequest},
		{"nothing", strings.NewReader(""), ReasonBadRequest},
		{"half its head", bytes.NewReader(whole[:5]), ReasonBadRequest},
		{"half of it", bytes.NewReader(whole[:len(whole)/2]), ReasonBadRequest},
		{"without its sum", bytes.NewReader(whole[:len(whole)-8]), ReasonBadRequest},
		{"a wrong sum", bytes.NewReader(flip(whole, len(whole)-6)), ReasonBadRequest},
		{"wrong bytes inside", bytes.NewReader(flip(flip(whole, 30), 31)), ReasonBadRequest},
		{"more behind it", bytes.NewReader(append(bytes.Clone(whole), "more"...)), ReasonBadRequest},
		{"a client that goes before it", iotest.ErrReader(reset), ReasonClientGone},
		{"a client that goes inside its head", io.MultiReader(bytes.NewReader(whole[:5]), iotest.ErrReader(reset)), ReasonClientGone},
		{"a client that goes inside it", io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(reset)), ReasonClientGone},
		{"a connection that ends inside it", io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(io.ErrUnexpectedEOF)), ReasonClientGone},
	} {
		got, err := io.ReadAll(&gzipBody{src: sourceReader{r: c.body}})
		if err != nil {
			err = bodyError(err)
		}
		if reasonOf(err) != c.reason || c.reason == "" && !bytes.Equal(got, want) {
			t.Errorf("%s: read %d bytes and %v, want %q", c.name, len(got), err, c.reason)
		}
	}
}

func TestRequestBodyNotesItsEnd(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"EOF alone":      strings.NewReader("hello"),
		"EOF with bytes": iotest.DataErrReader(strings.NewReader("hello")),
	} {
		b := &requestBody{ReadCloser: io.NopCloser(body)}
		if b.atEnd.Load() {
			t.Errorf("%s: at its end before it is read", name)
		}
		if got, err := io.ReadAll(b); string(got) != "hello" || err != nil || !b.atEnd.Load() {
			t.Errorf("%s: read %q, %v, at its end: %v", name, got, err, b.atEnd.Load())
		}
	}
	b := &requestBody{ReadCloser: io.NopCloser(iotest.ErrReader(errors.New("reset")))}
	if _, err := io.ReadAll(b); err == nil || b.atEnd.Load() {
		t.Errorf("a body that broke off: %v, at its end: %v", err, b.atEnd.Load())
	}
}
