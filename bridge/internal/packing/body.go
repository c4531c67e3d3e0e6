package packing

import (
	"compress/gzip"
	"errors"
	"io"

	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Body decompresses a body. It reads the header with the first bytes, so that a
// slow body delays only its own call.
type Body struct {
	src      source
	use      *quota.Call
	most     int64 // the largest decompressed size of a message
	z        *gzip.Reader
	messages int // that were read of it
}

// NewBody returns a body that decompresses src. The decompressed bytes count with the
// call. A message may decompress to most bytes.
func NewBody(src io.Reader, use *quota.Call, most int64) *Body {
	return &Body{src: source{r: src}, use: use, most: most}
}

// FreeMessages is how many messages a compressed body of any size may have.
const FreeMessages = 1000

// Begin judges a message that begins. Empty messages take next to no compressed
// bytes, and each is as much work as another, here and at the backend: so their
// number is bounded. Once begun, a message is decompressed whole.
func (g *Body) Begin() error {
	if g.messages++; g.messages > FreeMessages+g.src.bytes {
		return report.New(report.ReasonBadRequest, "the compressed body holds more messages than it has bytes")
	}
	if g.messages == 1 {
		return nil // Read has asked
	}
	return g.use.MayExpand()
}

// Read implements io.Reader.
func (g *Body) Read(p []byte) (int, error) {
	if g.z == nil {
		if err := g.use.MayExpand(); err != nil {
			return 0, err
		}
		z, err := gzip.NewReader(&g.src)
		if g.src.bytes == 0 && g.src.err == nil { // a proper end before the first byte
			return 0, io.EOF // nothing has no coding
		}
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

// fault distinguishes a body that isn't gzip from a connection that failed.
func (g *Body) fault(err error) error {
	if g.src.err != nil {
		return g.src.err
	}
	return report.New(report.ReasonBadRequest, "the body is marked as gzip but is not gzip").Because(err)
}

// source remembers its own error: a decoder's error may come from it or from the
// bytes.
type source struct {
	r     io.Reader
	bytes int // read
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.bytes += n
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
