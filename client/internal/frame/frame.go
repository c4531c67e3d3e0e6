// Package frame finds the frames in the bytes of an HTTP/2 connection, and writes short ones.
// RFC 9113 §4.1.
package frame

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// HeaderBytes is the size of the header before each frame's payload.
const HeaderBytes = 9

// Length returns the size of the payload behind a header, in bytes.
func Length(header []byte) int { return int(binary.BigEndian.Uint32(header) >> 8) }

// First returns the frame that bytes begin with, header included, or nil if it isn't whole.
func First(b []byte) []byte {
	if len(b) < HeaderBytes || len(b)-HeaderBytes < Length(b) {
		return nil
	}
	return b[:HeaderBytes+Length(b)]
}

// Make returns a short frame of the whole connection, without flags.
func Make(kind http2.FrameType, payload ...byte) []byte {
	return append([]byte{0, 0, byte(len(payload)), byte(kind), 0, 0, 0, 0, 0}, payload...)
}

// A Follower follows the frames in bytes that pass. The zero Follower is between two frames.
type Follower struct {
	head [HeaderBytes]byte
	have int
	left int    // of the payload
	seen uint32 // a bit for each kind
}

// Between reports whether the next byte begins a frame.
func (f *Follower) Between() bool { return f.have == 0 && f.left == 0 }

// Seen reports whether the header of a frame of this kind has passed.
func (f *Follower) Seen(kind http2.FrameType) bool { return f.seen&(1<<kind) != 0 }

// Pass follows further bytes.
func (f *Follower) Pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.head[f.have:], p)
		p = p[n:]
		if f.have += n; f.have == HeaderBytes {
			f.have, f.left = 0, Length(f.head[:])
			f.seen |= 1 << f.head[3]
		}
	}
}
