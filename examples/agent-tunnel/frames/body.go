package frames

import (
	"errors"
	"io"
	"maps"
	"net/http"
)

// A Body is the body of an http.Request or an http.Response that comes from the other
// end. At its end it adds the trailers to Trailers.
type Body struct {
	Exchange *Exchange
	Trailers http.Header // those of the request or response
	OnClose  func()
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	n, err := b.Exchange.Read(p)
	if errors.Is(err, io.EOF) {
		maps.Copy(b.Trailers, b.Exchange.Trailers())
	}
	return n, err
}

// Close implements io.Closer.
func (b *Body) Close() error {
	b.OnClose()
	return nil
}
