package wire

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// An h2Frame is the header of an HTTP/2 frame. RFC 9113 §4.1.
type h2Frame struct {
	length    uint32
	kind      http2.FrameType
	flags     http2.Flags
	stream    uint32
	increment uint32  // of a WINDOW_UPDATE; of a GOAWAY, the last stream that the peer takes; of RST_STREAM, the code
	padding   uint32  // of DATA, with the byte that has its length
	streams   setting // of SETTINGS: MAX_CONCURRENT_STREAMS
	table     setting // of SETTINGS: HEADER_TABLE_SIZE
	fields    setting // of SETTINGS: MAX_HEADER_LIST_SIZE
}

// A setting is the value of one of the settings, if SETTINGS name it.
type setting struct {
	value uint32
	named bool
}

// windowUpdate returns a WINDOW_UPDATE of a stream; 0 is the connection. RFC 9113 §6.9.
func windowUpdate(stream uint32, n int64) []byte {
	b := append(make([]byte, 0, windowUpdateBytes), 0, 0, 4, byte(http2.FrameWindowUpdate), 0)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// ends reports whether the frame is its sender's last one on the stream.
func (f h2Frame) ends() bool {
	return f.kind == http2.FrameRSTStream ||
		((f.kind == http2.FrameData || f.kind == http2.FrameHeaders) && f.flags.Has(http2.FlagDataEndStream))
}

// goesOn reports whether a header block continues in the frame after this one.
func (f h2Frame) goesOn() bool {
	return (f.kind == http2.FrameHeaders || f.kind == http2.FrameContinuation) && !f.flags.Has(http2.FlagHeadersEndHeaders)
}

const (
	frameHeaderBytes  = 9
	frameKindAt       = 3
	windowUpdateBytes = frameHeaderBytes + 4
	settingBytes      = 6
	maxSettingsBytes  = 1 << 10 // of SETTINGS that are parsed; six settings are defined
)

// h2Frames finds the frames in a stream of bytes that arrives in any pieces.
type h2Frames struct {
	fields func(stream uint32, part []byte, ends bool) // of header blocks; nil: not needed
	data   func(part []byte)                           // of DATA, without padding; nil: not needed
	goAway func(part []byte, ends bool)                // of a GOAWAY, after the stream; nil: not needed
	header h2Frame                                     // the frame whose payload is passed on; of a header block, HEADERS

	before []byte // pass sets it: frames to hand on before the one that it has

	skip  int    // bytes of the frame under way, or of the preface
	carry []byte // the beginning of a frame, too short for parseFrame
	block bool   // the last frame was of a header block that continues in the next
}

// between reports whether another frame may be inserted here: the next byte begins a
// frame that doesn't continue a header block. RFC 9113 §6.10.
func (s *h2Frames) between() bool { return s.skip == 0 && len(s.carry) == 0 && !s.block }

// inBlock reports whether the next byte belongs to a header block, or may.
func (s *h2Frames) inBlock() bool {
	return s.block || s.skip > 0 && s.header.kind == http2.FrameHeaders
}

// scan calls pass for each frame whose header ends in p, and returns the bytes to
// hand on. It leaves out the WINDOW_UPDATEs that pass held back, and the beginning of
// a header at the end of p, which follows with the next piece.
func (s *h2Frames) scan(p []byte, pass func(h2Frame) bool) []byte {
	if len(s.carry) > 0 {
		p = append(s.carry, p...)
		s.carry = nil
	}
	var out []byte // of p[:start], unless nothing of it is handed on
	start, at := 0, 0
	for at < len(p) {
		if s.skip > 0 {
			n := min(s.skip, len(p)-at)
			s.skip -= n
			s.passPart(p[at : at+n])
			at += n
			continue
		}
		f, n := parseFrame(p[at:])
		if n == 0 {
			s.carry = append([]byte(nil), p[at:]...)
			break
		}
		s.block = f.goesOn()
		wanted := pass(f)
		if s.before != nil {
			out = append(append(out, p[start:at]...), s.before...)
			start, s.before = at, nil
		}
		if !wanted {
			out = append(out, p[start:at]...)
			start = at + n
		}
		at += n
		s.skip = int(f.length) + frameHeaderBytes - n
		if f.kind != http2.FrameContinuation {
			s.header = f
		}
		if s.skip == 0 {
			s.passPart(nil)
		}
	}
	if len(out) == 0 {
		return p[start:at]
	}
	return append(out, p[start:at]...)
}

// passPart passes on a part of a frame's payload: of a header block, with whether it is the
// last one, of DATA, or of a GOAWAY.
func (s *h2Frames) passPart(part []byte) {
	switch s.header.kind {
	case http2.FrameHeaders:
		if s.fields != nil {
			s.fields(s.header.stream, part, s.skip == 0 && !s.block)
		}
	case http2.FrameData:
		if s.data != nil {
			padding := max(int(s.header.padding)-1, 0) // at the end
			s.data(part[:min(max(s.skip+len(part)-padding, 0), len(part))])
		}
	case http2.FrameGoAway:
		if s.goAway != nil {
			s.goAway(part, s.skip == 0)
		}
	}
}

// parseFrame parses a frame's header, and with it increment, the length of
// DATA's padding and SETTINGS. It returns the number of bytes used, 0 if b has too few.
func parseFrame(b []byte) (f h2Frame, n int) {
	if len(b) < frameHeaderBytes {
		return h2Frame{}, 0
	}
	f = h2Frame{
		length: uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		kind:   http2.FrameType(b[3]),
		flags:  http2.Flags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}
	if f.kind == http2.FrameSettings && f.stream == 0 && 0 < f.length && f.length <= maxSettingsBytes {
		return f.parseSettings(b)
	}
	if f.kind == http2.FrameData && f.flags.Has(http2.FlagDataPadded) && f.length > 0 {
		if len(b) == frameHeaderBytes {
			return h2Frame{}, 0
		}
		f.padding = min(1+uint32(b[frameHeaderBytes]), f.length)
		return f, frameHeaderBytes + 1
	}
	if !((f.kind == http2.FrameWindowUpdate || f.kind == http2.FrameRSTStream) && f.length == 4 || f.kind == http2.FrameGoAway && f.length >= 8) {
		return f, frameHeaderBytes
	}
	if len(b) < windowUpdateBytes {
		return h2Frame{}, 0
	}
	f.increment = binary.BigEndian.Uint32(b[frameHeaderBytes:])
	if f.kind != http2.FrameRSTStream {
		f.increment &^= 1 << 31 // it is reserved
	}
	return f, windowUpdateBytes
}

// parseSettings parses the payload of SETTINGS after the header, like parseFrame. RFC
// 9113 §6.5.1.
func (f h2Frame) parseSettings(b []byte) (h2Frame, int) {
	n := frameHeaderBytes + int(f.length)
	if len(b) < n {
		return h2Frame{}, 0
	}
	for s := b[frameHeaderBytes:n]; len(s) >= settingBytes; s = s[settingBytes:] {
		is := setting{binary.BigEndian.Uint32(s[2:]), true} // of two, the last counts
		switch http2.SettingID(binary.BigEndian.Uint16(s)) {
		case http2.SettingMaxConcurrentStreams:
			f.streams = is
		case http2.SettingHeaderTableSize:
			f.table = is
		case http2.SettingMaxHeaderListSize:
			f.fields = is
		}
	}
	return f, n
}
