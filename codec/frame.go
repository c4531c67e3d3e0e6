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
	// FlagCompressed says that the payload is compressed with the coding that
	// grpc-encoding names. gRPC PROTOCOL-HTTP2, "Requests".
	FlagCompressed byte = 0x01
	// FlagTrailers says that the payload is a header block with the call's
	// trailers, not a message. gRPC-Web only: PROTOCOL-WEB, "Protocol
	// differences vs gRPC over HTTP2".
	FlagTrailers byte = 0x80
)

// ErrReservedFlag is wrapped by the error of ParseFrameHeader for flags that no
// protocol defines. What follows them can't be read.
var ErrReservedFlag = errors.New("reserved frame flag")

// A FrameHeader is the prefix of one frame. What its flags mean where they
// stand (may a client send trailers, is there a coding) is its reader's to
// judge.
type FrameHeader struct {
	Flags  byte
	Length uint32 // of the payload, in bytes
}

// ParseFrameHeader reads a frame's prefix from the beginning of b. It returns
// the bytes used: FrameHeaderBytes, or 0 when b holds less than a prefix. Flags
// are judged as soon as their byte is there, so that a peer which sends garbage
// and then waits is answered.
//
// The length is what the peer claims. Check it before allocating for it.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
func ParseFrameHeader(b []byte) (h FrameHeader, n int, err error) {
	if len(b) == 0 {
		return FrameHeader{}, 0, nil
	}
	if b[0]&^(FlagCompressed|FlagTrailers) != 0 {
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
