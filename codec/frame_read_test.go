package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// pieces gives the bytes of a reader in pieces of at most so many.
type pieces struct {
	r    io.Reader
	most int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.most)]) }

// framesOf returns the frames of a stream, and its end.
func framesOf(r io.Reader, maxBytes int) (all []string, end error) {
	for {
		h, payload, err := ReadFrame(r, ParseFrameHeader, maxBytes)
		if err != nil {
			return all, err
		}
		all = append(all, fmt.Sprintf("%d %x", h.Flags, payload))
		if int(h.Length) != len(payload) {
			return all, fmt.Errorf("a frame of %d bytes has %d", h.Length, len(payload))
		}
	}
}

// FuzzReadFrame: whatever comes, in whatever pieces, the same frames and the same end are read,
// and each payload is as long as its frame says.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x01a\x80\x00\x00\x00\x10grpc-status: 0\r\n"), 3)
	f.Add([]byte("\x80\x00\x00\x00\x10grpc-status: 7\r\n"), 1)
	f.Add([]byte("\x00\xff\xff\xff\xff"), 2)
	f.Fuzz(func(t *testing.T, in []byte, most int) {
		const maxBytes = 64
		whole, end := framesOf(bytes.NewReader(in), maxBytes)
		got, endOfPieces := framesOf(pieces{bytes.NewReader(in), max(most, 1)}, maxBytes)
		if h, payload, err := ReadFrame(bytes.NewReader(in), ParseFrameHeader, maxBytes); err == nil && !bytes.HasPrefix(in, append(h.AppendTo(nil), payload...)) {
			t.Errorf("%q begins with the frame %+v, %q", in, h, payload)
		}
		if fmt.Sprint(got) != fmt.Sprint(whole) || fmt.Sprint(endOfPieces) != fmt.Sprint(end) {
			t.Errorf("%q: %q and %v, in pieces %q and %v", in, whole, end, got, endOfPieces)
		}
	})
}

func TestReadFrameSaysHowTheStreamEnds(t *testing.T) {
	for in, want := range map[string]error{
		"":                          io.EOF,
		"\x00\x00\x00\x00\x01a":     io.EOF,
		"\x00\x00":                  io.ErrUnexpectedEOF,
		"\x00\x00\x00\x00\x02a":     io.ErrUnexpectedEOF,
		"\x42":                      ErrReservedFlag,
		"\x00\x00\x00\x00\x00\x42x": ErrReservedFlag,
	} {
		if _, err := framesOf(bytes.NewBufferString(in), 64); !errors.Is(err, want) {
			t.Errorf("%q ends with %v, want %v", in, err, want)
		}
	}
}
