package bridge

import (
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/h2"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
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

// gzipBody expands a body. Its header is read with the first bytes, so that a
// slow body holds up only its own call.
type gzipBody struct {
	src      sourceReader
	use      *quota.Call
	most     int64 // bytes that a message may expand to
	z        *gzip.Reader
	messages int // that were read of it
}

// freeMessages is how many messages a compressed body may hold whatever its
// size.
const freeMessages = 1000

// begin judges a message that begins. Empty ones are expanded from next to
// nothing, and each is as much work as another, here and at the backend: so
// they are bounded. What has begun is expanded whole.
func (g *gzipBody) begin() error {
	if g.messages++; g.messages > freeMessages+g.src.bytes {
		return report.New(report.ReasonBadRequest, "the compressed body holds more messages than it has bytes")
	}
	if g.messages == 1 {
		return nil // Read has asked
	}
	return g.use.MayExpand()
}

func (g *gzipBody) Read(p []byte) (int, error) {
	if g.z == nil {
		if err := g.use.MayExpand(); err != nil {
			return 0, err
		}
		z, err := gzip.NewReader(&g.src)
		if err != nil {
			return 0, g.fault(err)
		}
		g.z = z
	}
	n, err := g.z.Read(p)
	if err := g.use.Expanded(n, g.most); err != nil {
		return n, err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = g.fault(err)
	}
	return n, err
}

// fault tells a body that isn't gzip from a connection that failed.
func (g *gzipBody) fault(err error) error {
	if g.src.err != nil {
		return g.src.err
	}
	return report.New(report.ReasonBadRequest, "the body is marked as gzip and is not").Because(err)
}

// sourceReader remembers its own error: a decoder's may stem from it or from
// the bytes.
type sourceReader struct {
	r     io.Reader
	bytes int // read
	err   error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.bytes += n
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
