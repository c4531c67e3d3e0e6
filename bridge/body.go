package bridge

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/h2"
)

// requestBody notes whether the request's body has ended, since the answer's header
// depends on it.
type requestBody struct {
	io.ReadCloser
	atEnd atomic.Bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.atEnd.Store(true)
	}
	return n, err
}

// malformedBody reports whether an error is about a body's bytes and not about the
// connection. net/http's errors have no types, so malformedBody looks for parts of
// their texts. A new text counts as a client that has gone away.
func malformedBody(err error) bool {
	if errors.As(err, new(*h2.LengthError)) {
		return true
	}
	text := err.Error()
	for _, part := range []string{
		"chunk",                     // RFC 9112 §7.1
		"header line too long",      // a chunk's extensions
		"declared Content-Length",   // more DATA than declared, in a server of the caller's: RFC 9113 §8.1.1
		"declared a Content-Length", // less
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
