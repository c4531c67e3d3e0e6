package client

import "encoding/binary"

const frameHeaderBytes = 9

func frameLength(header []byte) uint32 { return binary.BigEndian.Uint32(header) >> 8 }

// A frameReader follows the frames in bytes that are read. RFC 9113 §4.1.
type frameReader struct {
	head [frameHeaderBytes]byte
	have int
	left uint32 // of the payload
}

// between reports whether the next byte begins a frame.
func (f *frameReader) between() bool { return f.have == 0 && f.left == 0 }

func (f *frameReader) skip(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint32(min(len(p), 1<<30)))
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.head[f.have:], p)
		p = p[n:]
		if f.have += n; f.have == frameHeaderBytes {
			f.have, f.left = 0, frameLength(f.head[:])
		}
	}
}
