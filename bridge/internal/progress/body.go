package progress

import (
	"errors"
	"io"
	"sync/atomic"
)

// A Body notes whether the request's body has ended, since the answer's header depends on
// it.
type Body struct {
	io.ReadCloser
	AtEnd atomic.Bool
}

// NewBody returns a body of this Content-Length, or less than 0 if that isn't known.
func NewBody(body io.ReadCloser, length int64) *Body {
	b := &Body{ReadCloser: body}
	b.AtEnd.Store(length == 0)
	return b
}

func (b *Body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.AtEnd.Store(true)
	}
	return n, err
}
