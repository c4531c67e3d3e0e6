package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// FrameHeaderBytes is the size of a frame's prefix: one byte of flags and the
// payload's length as four bytes, big-endian.
const FrameHeaderBytes = 5

// Bits of a frame's flags.
const (
	// FlagCompressed means that the payload is compressed with the coding in
	// grpc-encoding. gRPC PROTOCOL-HTTP2, "Requests".
	FlagCompressed byte = 0x01
	// FlagTrailers means that the payload is a header block with the call's
	// trailers, not a message. gRPC-Web only: PROTOCOL-WEB, "Protocol differences
	// vs gRPC over HTTP2".
	FlagTrailers byte = 0x80
)

// ErrReservedFlag is wrapped by the error of ParseFrameHeader for flags that no
// protocol defines. The bytes after them can't be parsed.
var ErrReservedFlag = errors.New("reserved frame flag")

// A FrameHeader is the prefix of one frame. Its reader judges the meaning of the
// flags in their context (may a client send trailers, is there a coding).
type FrameHeader struct {
	Flags  byte
	Length uint32 // of the payload, in bytes
}

// ParseFrameHeader parses a frame's prefix at the beginning of b. It returns the
// bytes used: FrameHeaderBytes, or 0 if b has less than a prefix. It judges flags
// as soon as their byte has arrived, so that a peer that sends garbage and then
// waits gets an answer.
//
// The length is the peer's claim. Check it before allocating for it.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
func ParseFrameHeader(b []byte) (h FrameHeader, n int, err error) {
	return parseFrameHeader(b, FlagCompressed|FlagTrailers)
}

// ParseEnvelopeHeader is ParseFrameHeader for an envelope of a Connect stream, whose flags are
// FlagCompressed and FlagEndStream.
// https://connectrpc.com/docs/protocol#streaming-response
func ParseEnvelopeHeader(b []byte) (h FrameHeader, n int, err error) {
	return parseFrameHeader(b, FlagCompressed|FlagEndStream)
}

func parseFrameHeader(b []byte, flags byte) (h FrameHeader, n int, err error) {
	if len(b) == 0 {
		return FrameHeader{}, 0, nil
	}
	if b[0]&^flags != 0 {
		return FrameHeader{}, 0, fmt.Errorf("%w 0x%02x", ErrReservedFlag, b[0])
	}
	if len(b) < FrameHeaderBytes {
		return FrameHeader{}, 0, nil
	}
	return FrameHeader{Flags: b[0], Length: binary.BigEndian.Uint32(b[1:])}, FrameHeaderBytes, nil
}

// AppendTo appends the prefix to b.
func (h FrameHeader) AppendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, h.Flags), h.Length)
}
