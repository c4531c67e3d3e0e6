package bridge

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/h2"
)

// requestBody notes the end of a request's body, which the answer's header
// depends on.
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

// malformedBody holds for the errors that are about a body's bytes and not
// about the connection. Those of net/http have no types: these are parts of
// their texts, and one that is new reads as a client that is gone.
func malformedBody(err error) bool {
	if errors.As(err, new(*h2.LengthError)) {
		return true
	}
	text := err.Error()
	for _, part := range []string{
		"chunk",                     // RFC 9112 §7.1
		"header line too long",      // a chunk's extensions
		"declared Content-Length",   // more DATA than that, in a server of the caller's: RFC 9113 §8.1.1
		"declared a Content-Length", // less
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
