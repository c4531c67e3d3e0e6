package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// frameHeaderBytes is the length of a frame's header. RFC 9113 §4.1.
const frameHeaderBytes = 9

type frameHeader struct {
	length int // of the payload
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
}

// parseFrameHeader reads the header from the beginning of b, which holds at
// least frameHeaderBytes.
func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   http2.FrameType(b[3]),
		flags:  http2.Flags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), // the first bit is reserved
	}
}

func (h frameHeader) appendTo(b []byte) []byte {
	b = append(b, byte(h.length>>16), byte(h.length>>8), byte(h.length), byte(h.kind), byte(h.flags))
	return binary.BigEndian.AppendUint32(b, h.stream)
}

// unpadded returns a DATA or HEADERS payload without padding and its length. RFC 9113
// §6.1.
func (h frameHeader) unpadded(payload []byte) ([]byte, error) {
	const padded = http2.FlagDataPadded // HEADERS use the same bit
	if !h.flags.Has(padded) {
		return payload, nil
	}
	if len(payload) == 0 {
		return nil, connError{http2.ErrCodeFrameSize, "a padded frame without its padding length"}
	}
	pad, rest := int(payload[0]), payload[1:]
	if pad > len(rest) {
		return nil, connError{http2.ErrCodeProtocol, "more padding than payload"}
	}
	return rest[:len(rest)-pad], nil
}

// appendWord appends a frame whose payload is one word of 32 bits: RST_STREAM
// or WINDOW_UPDATE.
func appendWord(b []byte, kind http2.FrameType, stream, word uint32) []byte {
	b = frameHeader{length: 4, kind: kind, stream: stream}.appendTo(b)
	return binary.BigEndian.AppendUint32(b, word)
}

// appendGoAway appends GOAWAY with the last stream that is or may be served.
func appendGoAway(b []byte, last uint32, code http2.ErrCode, debug string) []byte {
	b = frameHeader{length: 8 + len(debug), kind: http2.FrameGoAway}.appendTo(b)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

func appendPing(b []byte, ack bool, data [8]byte) []byte {
	h := frameHeader{length: 8, kind: http2.FramePing}
	if ack {
		h.flags = http2.FlagPingAck
	}
	return append(h.appendTo(b), data[:]...)
}

func appendSettings(b []byte, settings ...http2.Setting) []byte {
	b = frameHeader{length: 6 * len(settings), kind: http2.FrameSettings}.appendTo(b)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

// appendBlock appends a header block in frames of up to the given size.
func appendBlock(b []byte, stream uint32, block []byte, size int, end bool) []byte {
	h := frameHeader{kind: http2.FrameHeaders, stream: stream}
	if end {
		h.flags = http2.FlagHeadersEndStream
	}
	for {
		h.length = min(len(block), size)
		if h.length == len(block) {
			h.flags |= http2.FlagHeadersEndHeaders // CONTINUATION uses the same bit
		}
		b = append(h.appendTo(b), block[:h.length]...)
		block = block[h.length:]
		if len(block) == 0 {
			return b
		}
		h.kind, h.flags = http2.FrameContinuation, 0
	}
}
