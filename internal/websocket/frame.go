package websocket

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	coder "github.com/coder/websocket"
)

// An Opcode is the kind of a frame; that of its first frame is the kind of a message.
// RFC 6455 §5.2, §11.8.
type Opcode byte

// The kinds of messages.
const (
	Text   Opcode = 0x1
	Binary Opcode = 0x2
)

const (
	opContinuation Opcode = 0x0
	opClose        Opcode = 0x8
	opPing         Opcode = 0x9
	opPong         Opcode = 0xa
)

// Bits of a frame's first and second byte.
const (
	finBit  = 0x80
	rsvBits = 0x70
	opBits  = 0x0f
	maskBit = 0x80
)

// maxControl is the longest payload of a control frame. RFC 6455 §5.5.
const maxControl = 125

// maxFrame is the longest payload of a frame. A gRPC message has at most 2^32-1 bytes
// after a prefix of 5 and a marker. RFC 6455 §10.4.
const maxFrame = 1<<32 + 5

// maxHead is the length of the longest header of a frame with a mask.
const maxHead = 14

// A frameHead is the header of a frame. RFC 6455 §5.2.
type frameHead struct {
	op     Opcode
	final  bool
	length uint64
	mask   uint32 // in the form for unmask; a server's frame has none
}

// startHead parses the first two bytes of a frame, which must have a mask or must not. It
// returns how many bytes of the length follow, and the broken rule, if there is one: a peer
// that breaks one may never send the rest.
func startHead(first, second byte, masked bool) (h frameHead, more int, broken string) {
	h = frameHead{op: Opcode(first & opBits), final: first&finBit != 0, length: uint64(second &^ maskBit)}
	switch {
	case first&rsvBits != 0:
		return h, 0, "a reserved bit is set"
	case masked && second&maskBit == 0:
		return h, 0, "a client's frame isn't masked"
	case !masked && second&maskBit != 0:
		return h, 0, "a server's frame is masked"
	case h.op > opPong, h.op > Binary && h.op < opClose:
		return h, 0, "a reserved opcode"
	case h.control() && !h.final:
		return h, 0, "a fragmented control frame"
	case h.control() && h.length > maxControl:
		return h, 0, "a control frame of more than 125 bytes"
	}
	switch h.length {
	case 126:
		return h, 2, ""
	case 127:
		return h, 8, ""
	}
	return h, 0, ""
}

// setLength parses the bytes of the length, if there are any.
func (h *frameHead) setLength(b []byte) (broken string) {
	switch len(b) {
	case 2:
		h.length = uint64(binary.BigEndian.Uint16(b))
	case 8:
		h.length = binary.BigEndian.Uint64(b)
	}
	if h.length > 1<<63-1 {
		return "the length has its top bit set"
	}
	return ""
}

func (h *frameHead) control() bool { return h.op&opClose != 0 }

// unmask sets dst to src without its mask, or with it, which is the same. It returns the
// mask for the bytes after it. The two may be the same. RFC 6455 §5.3.
func unmask(dst, src []byte, mask uint32) uint32 {
	if len(src) >= 4<<10 {
		return unmaskLarge(dst, src, mask)
	}
	var pattern [256]byte
	return unmaskWith(pattern[:], dst, src, mask)
}

// unmaskLarge isn't part of unmask, so that the stacks of calls with small messages
// don't need room for its pattern.
//
//go:noinline
func unmaskLarge(dst, src []byte, mask uint32) uint32 {
	var pattern [2 << 10]byte
	return unmaskWith(pattern[:], dst, src, mask)
}

// unmaskWith fills the pattern, whose length is a multiple of the mask's, as far as
// needed.
func unmaskWith(pattern, dst, src []byte, mask uint32) uint32 {
	binary.LittleEndian.PutUint32(pattern, mask)
	for n := 4; n < min(len(src), len(pattern)); {
		n += copy(pattern[n:], pattern[:n])
	}
	for len(src) > 0 {
		n := subtle.XORBytes(dst, src, pattern)
		dst, src = dst[n:], src[n:]
		mask = bits.RotateLeft32(mask, -8*(n%4))
	}
	return mask
}

// parseClose parses a close frame's payload: the code, 1005 if there is none, and the
// reason. For an invalid payload it returns the broken rule and the code to answer
// with. RFC 6455 §5.5.1, §7.4, §8.1.
func parseClose(payload []byte) (told coder.CloseError, broken string) {
	if len(payload) == 0 {
		return coder.CloseError{Code: StatusNoStatusRcvd}, ""
	}
	if len(payload) == 1 {
		return coder.CloseError{Code: StatusProtocolError}, "a close frame of one byte"
	}
	code, reason := StatusCode(binary.BigEndian.Uint16(payload)), payload[2:]
	switch {
	case code < 1000, code >= 1004 && code <= 1006, code > 1014 && code < 3000, code > 4999:
		return coder.CloseError{Code: StatusProtocolError}, "a close code that must not be sent"
	case !utf8.Valid(reason):
		return coder.CloseError{Code: coder.StatusInvalidFramePayloadData}, "a close reason that isn't UTF-8"
	}
	return coder.CloseError{Code: code, Reason: string(reason)}, ""
}

// maxFrameHeader is the size of the longest header of a frame without mask.
const maxFrameHeader = 10

// appendFrameHeader appends the header of a server's frame, the last of its message.
func appendFrameHeader(b []byte, kind Opcode, length int) []byte {
	first := finBit | byte(kind)
	switch {
	case length < 126:
		return append(b, first, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(b, first, 127), uint64(length))
	}
}
