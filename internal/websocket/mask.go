package websocket

import (
	"crypto/rand"
	"encoding/binary"
)

// masks are those of the frames that a client writes: each has a key of its own, which
// nobody can predict. Else a page could choose what crosses the wire, and have a proxy take
// that for a request. RFC 6455 §5.3, §10.3.
type masks struct {
	made   [256]byte // keys
	left   []byte    // of made
	mask   uint32    // of what is left of the frame that is being written, in the form for unmask
	header [maxHead]byte
}

// head returns the header of a client's frame, whose payload is for mask.
func (m *masks) head(op Opcode, length int) []byte {
	if len(m.left) == 0 {
		_, _ = rand.Read(m.made[:]) // it never fails
		m.left = m.made[:]
	}
	key := m.left[:4]
	m.left = m.left[4:]
	m.mask = binary.LittleEndian.Uint32(key)
	b := appendFrameHeader(m.header[:0], op, length)
	b[1] |= maskBit
	return append(b, key...)
}
