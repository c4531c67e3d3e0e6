package packing

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/mem"
)

// Level is the level at which culvert compresses messages that arrived compressed.
// The sender chooses the bytes, and thereby the cost: at gzip's default level some
// bytes take fifty times as long as at this level, which takes the first match that
// it finds.
const Level = gzip.BestSpeed

// A Reader is a pooled gzip.Reader that remembers whether the stream came to its
// proper end, which io.ReadFull hides.
type Reader struct {
	gzip.Reader
	eof bool
}

// AtEnd reports whether the stream came to its proper end.
func (g *Reader) AtEnd() bool { return g.eof }

// Read implements io.Reader.
func (g *Reader) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	g.eof = errors.Is(err, io.EOF)
	return n, err
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// NewReader returns a reader of one gzip stream. Release gives it back.
func NewReader(r io.Reader) (*Reader, error) {
	z := readers.Get().(*Reader)
	z.eof = false
	if err := z.Reset(r); err != nil {
		readers.Put(z)
		return nil, err
	}
	return z, nil
}

// Release keeps the reader for another stream.
func (g *Reader) Release() { readers.Put(g) }

var writers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, Level)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return z
}}

// Pack packs a message with gzip into buffers of the pool and frees it.
func Pack(m mem.BufferSlice, pool mem.BufferPool) (mem.BufferSlice, error) {
	defer m.Free()
	var out mem.BufferSlice
	z := writers.Get().(*gzip.Writer)
	defer writers.Put(z)
	z.Reset(mem.NewWriter(&out, pool))
	for _, b := range m {
		if _, err := z.Write(b.ReadOnlyData()); err != nil {
			out.Free()
			return nil, fmt.Errorf("gzip: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		out.Free()
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return out, nil
}
