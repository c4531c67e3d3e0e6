package parts

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/codec"
)

// Framed returns one length-prefixed message.
func Framed(flag byte, payload []byte) []byte {
	return append(codec.FrameHeader{Flags: flag, Length: uint32(len(payload))}.AppendTo(nil), payload...)
}

// ReadMessages reads to the end and returns copies of the messages.
func ReadMessages(m interface {
	Next() (mem.BufferSlice, error)
},
) (messages [][]byte, err error) {
	for {
		s, err := m.Next()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, s.Materialize())
		s.Free()
	}
}

// Gzipped returns a payload as one gzip stream.
func Gzipped(payload []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(payload) // to memory
	_ = z.Close()
	return b.Bytes()
}

// Pattern returns n bytes that can't be mistaken for any other n bytes.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i*7)
	}
	return b
}

// Flip returns a copy of b with the bits of one byte turned over.
func Flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0xff
	return b
}

// MaxFuzzed bounds the bytes that a fuzz target uses unchanged. Go minimizes each
// interesting input by removing bytes and ranges of bytes. For an input of several
// KiB that takes a minute, and nothing is fuzzed meanwhile.
const MaxFuzzed = 256

// Stretched returns b with n bytes of a pattern inserted at index at, or at its end
// if it is shorter. With it, a fuzz target makes a large input from one that is
// quick to minimize.
func Stretched(b []byte, at, n int) []byte {
	at = min(at, len(b))
	return slices.Concat(b[:at], Pattern(n), b[at:])
}
