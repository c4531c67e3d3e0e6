package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ReadFrame reads a frame of at most maxBytes, whose prefix parse parses: ParseFrameHeader or
// ParseEnvelopeHeader. The error is io.EOF if r ends before a frame, and io.ErrUnexpectedEOF if
// it ends in one. Memory grows with the bytes that come, not with the length that the peer
// claims.
func ReadFrame(r io.Reader, parse func([]byte) (FrameHeader, int, error), maxBytes int) (h FrameHeader, payload []byte, err error) {
	var prefix [FrameHeaderBytes]byte
	for have, n := 0, 0; n == 0; {
		got, err := r.Read(prefix[have:])
		have += got
		var malformed error
		if h, n, malformed = parse(prefix[:have]); malformed != nil {
			return h, nil, malformed
		}
		if n > 0 {
			break
		}
		if errors.Is(err, io.EOF) && have > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return h, nil, err
		}
	}
	if int64(h.Length) > int64(maxBytes) {
		return h, nil, fmt.Errorf("the other side announces a message of %d bytes, over the limit of %d KiB", h.Length, maxBytes>>10)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(h.Length)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return h, nil, err
	}
	return h, b.Bytes(), nil
}
