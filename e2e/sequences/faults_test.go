package sequences

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A state is the stream's that a fault needs.
type state int

const (
	anyState state = iota
	waiting        // nothing of its answer has been sent
	begun          // its header has been sent, and its end hasn't
	ended          // its end has been sent
)

// A fault is one thing that a server does wrong.
type fault struct {
	name  string
	state state
	do    func(s *sequence, st *stream)
	first func(s *sequence) // what the server sends in place of SETTINGS; then do is nil
}

// bad is a header that has a fault. Content follows it.
func bad(fields ...hpack.HeaderField) func(*sequence, *stream) {
	return func(s *sequence, st *stream) {
		st.begun = true
		st.plan = []func(){func() { s.data(st, 10, false) }, func() { s.data(st, 0, true) }}
		s.header(st, false, fields...)
	}
}

// badTrailers is the same for trailers.
func badTrailers(fields ...hpack.HeaderField) func(*sequence, *stream) {
	return func(s *sequence, st *stream) {
		st.plan = nil
		s.header(st, true, fields...)
	}
}

// badBlock is a header block that isn't HPACK.
func badBlock(block ...byte) func(*sequence, *stream) {
	return func(s *sequence, st *stream) { s.split(st.id, false, block) }
}

// frame is one frame. The stream is the connection if onStream isn't set.
func frame(kind http2.FrameType, flags http2.Flags, onStream bool, payload ...byte) func(*sequence, *stream) {
	return func(s *sequence, st *stream) {
		id := uint32(0)
		if onStream {
			id = st.id
		}
		s.send(kind, flags, id, payload)
	}
}

// ok begins a block.
var ok = field(":status", "200")

var okBlock = []byte{0x88}

func long(n int) []byte { return make([]byte, n) }

var faults = []fault{
	// Sizes and streams (RFC 9113 §4.2, §6).
	{name: "a frame over 16384 bytes", state: begun, do: frame(http2.FrameData, 0, true, long(16385)...)},
	{name: "DATA on stream 0", do: frame(http2.FrameData, 0, false, 1, 2)},
	{name: "HEADERS on stream 0", do: frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, false, okBlock...)},
	{name: "RST_STREAM on stream 0", do: frame(http2.FrameRSTStream, 0, false, 0, 0, 0, 8)},
	{name: "RST_STREAM of 3 bytes", do: frame(http2.FrameRSTStream, 0, true, 0, 0, 8)},
	{name: "SETTINGS on a stream", do: frame(http2.FrameSettings, 0, true)},
	{name: "SETTINGS of 5 bytes", do: frame(http2.FrameSettings, 0, false, long(5)...)},
	{name: "an acknowledgement with settings", do: frame(http2.FrameSettings, http2.FlagSettingsAck, false, setting(0x7a7a, 1)...)},
	{name: "ENABLE_PUSH of 1", do: frame(http2.FrameSettings, 0, false, setting(http2.SettingEnablePush, 1)...)},
	{name: "ENABLE_PUSH of 2", do: frame(http2.FrameSettings, 0, false, setting(http2.SettingEnablePush, 2)...)},
	{name: "INITIAL_WINDOW_SIZE of 2^31", do: frame(http2.FrameSettings, 0, false, setting(http2.SettingInitialWindowSize, 1<<31)...)},
	{name: "MAX_FRAME_SIZE of 16383", do: frame(http2.FrameSettings, 0, false, setting(http2.SettingMaxFrameSize, 16383)...)},
	{name: "MAX_FRAME_SIZE of 2^24", do: frame(http2.FrameSettings, 0, false, setting(http2.SettingMaxFrameSize, 1<<24)...)},
	{name: "PING of 7 bytes", do: frame(http2.FramePing, 0, false, long(7)...)},
	{name: "PING on a stream", do: frame(http2.FramePing, 0, true, long(8)...)},
	{name: "GOAWAY on a stream", do: frame(http2.FrameGoAway, 0, true, long(8)...)},
	{name: "GOAWAY of 7 bytes", do: frame(http2.FrameGoAway, 0, false, long(7)...)},
	{name: "WINDOW_UPDATE of 0 on the connection", do: frame(http2.FrameWindowUpdate, 0, false, 0, 0, 0, 0)},
	{name: "WINDOW_UPDATE of 0 on a stream", state: waiting, do: frame(http2.FrameWindowUpdate, 0, true, 0, 0, 0, 0)},
	{name: "WINDOW_UPDATE of 3 bytes", do: frame(http2.FrameWindowUpdate, 0, false, 0, 0, 1)},
	{name: "a window of the connection over 2^31-1", do: frame(http2.FrameWindowUpdate, 0, false, 0x7f, 0xff, 0xff, 0xff)},
	{name: "PRIORITY of 4 bytes", state: waiting, do: frame(http2.FramePriority, 0, true, long(4)...)},
	{name: "PRIORITY on stream 0", do: frame(http2.FramePriority, 0, false, long(5)...)},
	{name: "a push", state: waiting, do: frame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, true, append(four(2), 0x82)...)},
	{name: "padding as long as DATA", state: begun, do: frame(http2.FrameData, http2.FlagDataPadded, true, 3, 0, 0, 0)},
	{name: "padding as long as HEADERS", state: waiting, do: frame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, true, 2, 0x88)},
	{name: "HEADERS too short for their priority", state: waiting, do: frame(http2.FrameHeaders, http2.FlagHeadersPriority|http2.FlagHeadersEndHeaders, true, 0, 0, 0)},

	// The order of frames (§4.3, §5.1, §6.10, §8.1).
	{name: "CONTINUATION without HEADERS", state: waiting, do: frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, true, okBlock...)},
	{name: "CONTINUATION of another stream", state: waiting, do: func(s *sequence, st *stream) {
		s.send(http2.FrameHeaders, 0, st.id, okBlock)
		s.send(http2.FrameContinuation, http2.FlagContinuationEndHeaders, st.id+2, nil)
	}},
	{name: "PING inside a block", state: waiting, do: func(s *sequence, st *stream) {
		s.send(http2.FrameHeaders, 0, st.id, okBlock)
		s.send(http2.FramePing, 0, 0, long(8))
	}},
	{name: "an unknown frame inside a block", state: waiting, do: func(s *sequence, st *stream) {
		s.send(http2.FrameHeaders, 0, st.id, okBlock)
		s.send(0x77, 0, st.id, nil)
	}},
	{name: "HEADERS on a stream that isn't open", do: func(s *sequence, _ *stream) { s.split(1001, false, okBlock) }},
	{name: "HEADERS on a stream of the server's", do: func(s *sequence, _ *stream) { s.split(2, false, okBlock) }},
	{name: "DATA on a stream that isn't open", do: func(s *sequence, _ *stream) { s.send(http2.FrameData, 0, 1001, []byte{1}) }},
	{name: "RST_STREAM on a stream that isn't open", do: func(s *sequence, _ *stream) { s.send(http2.FrameRSTStream, 0, 1001, four(8)) }},
	{name: "WINDOW_UPDATE on a stream that isn't open", do: func(s *sequence, _ *stream) { s.send(http2.FrameWindowUpdate, 0, 1001, four(8)) }},
	{name: "DATA before the header", state: waiting, do: frame(http2.FrameData, 0, true, 1, 2, 3)},
	{name: "DATA behind the end", state: ended, do: frame(http2.FrameData, 0, true, 1, 2, 3)},
	{name: "HEADERS behind the end", state: ended, do: func(s *sequence, st *stream) { s.header(st, false, ok) }},
	{name: "trailers that don't end the stream", state: begun, do: func(s *sequence, st *stream) { s.header(st, false, field("a", "b")) }},
	{name: "a second header", state: begun, do: func(s *sequence, st *stream) { s.header(st, false, ok) }},
	{name: "an informational header that ends the stream", state: waiting, do: func(s *sequence, st *stream) {
		st.plan = nil
		s.header(st, true, field(":status", "103"))
	}},
	{name: "an informational header behind the header", state: begun, do: func(s *sequence, st *stream) { s.header(st, false, field(":status", "103")) }},
	{name: "no SETTINGS at first", first: func(s *sequence) { s.send(http2.FramePing, 0, 0, long(8)) }},
	{name: "an acknowledgement at first", first: func(s *sequence) { s.send(http2.FrameSettings, http2.FlagSettingsAck, 0, nil) }},
	{name: "HTTP/1.1 at first", first: func(s *sequence) {
		s.steps = append(s.steps, step{bytes: []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")})
	}},

	// HPACK (RFC 7541).
	{name: "an index of 0", state: waiting, do: badBlock(0x80)},
	{name: "an index that is not in the table", state: waiting, do: badBlock(0x88, 0xff, 0x7f)},
	{name: "a name's index that is not in the table", state: waiting, do: badBlock(0x88, 0x7f, 0x7f, 1, 'a')},
	{name: "a string that is cut off", state: waiting, do: badBlock(0x88, 0x00, 5, 'a')},
	{name: "an integer that is cut off", state: waiting, do: badBlock(0x88, 0xff)},
	{name: "an integer without end", state: waiting, do: badBlock(append([]byte{0x88, 0xff}, bytes.Repeat([]byte{0xff}, 12)...)...)},
	{name: "Huffman with 8 bits of padding", state: waiting, do: badBlock(0x88, 0x00, 1, 'a', 0x82, 0x1f, 0xff)},
	{name: "Huffman with a padding of zeros", state: waiting, do: badBlock(0x88, 0x00, 1, 'a', 0x81, 0x18)},
	{name: "Huffman with EOS", state: waiting, do: badBlock(0x88, 0x00, 1, 'a', 0x84, 0xff, 0xff, 0xff, 0xff)},
	{name: "a table of 4097 bytes", state: waiting, do: badBlock(append(integer(0x20, 5, 4097), 0x88)...)},
	{name: "a new table size behind a field", state: waiting, do: badBlock(0x88, 0x20)},

	// Fields (RFC 9113 §8.2, §8.3).
	{name: "no :status", state: waiting, do: bad(field("a", "b"))},
	{name: "an empty block", state: waiting, do: bad()},
	{name: "two :status", state: waiting, do: bad(ok, ok)},
	{name: "a :status behind a field", state: waiting, do: bad(field("a", "b"), ok)},
	{name: "a :status of two digits", state: waiting, do: bad(field(":status", "20"))},
	{name: "a :status of letters", state: waiting, do: bad(field(":status", "abc"))},
	{name: "a :status with a sign", state: waiting, do: bad(field(":status", "+20"))},
	{name: "a request's pseudo-field", state: waiting, do: bad(ok, field(":path", "/"))},
	{name: "an unknown pseudo-field", state: waiting, do: bad(ok, field(":what", "1"))},
	{name: "a name in capitals", state: waiting, do: bad(ok, field("Name", "1"))},
	{name: "a name with a space", state: waiting, do: bad(ok, field("na me", "1"))},
	{name: "an empty name", state: waiting, do: bad(ok, field("", "1"))},
	{name: "a value with a line's end", state: waiting, do: bad(ok, field("a", "b\nc"))},
	{name: "a value with a zero", state: waiting, do: bad(ok, field("a", "b\x00c"))},
	{name: "a value with spaces around it", state: waiting, do: bad(ok, field("a", " b "))},
	{name: "a field that is about the connection", state: waiting, do: bad(ok, field("connection", "close"))},
	{name: "a transfer-encoding", state: waiting, do: bad(ok, field("transfer-encoding", "chunked"))},
	{name: "trailers with :status", state: begun, do: badTrailers(ok)},
	{name: "trailers with a name in capitals", state: begun, do: badTrailers(field("Name", "1"))},
	{name: "more content than content-length", state: waiting, do: func(s *sequence, st *stream) {
		st.begun, st.plan = true, nil
		s.header(st, false, ok, field("content-length", "2"))
		s.data(st, 3, true)
	}},
	{name: "less content than content-length", state: waiting, do: func(s *sequence, st *stream) {
		st.begun, st.plan = true, nil
		s.header(st, false, ok, field("content-length", "5"))
		s.data(st, 3, true)
	}},

	// What isn't wrong, but ends streams.
	{name: "GOAWAY that spares all", do: func(s *sequence, _ *stream) { s.send(http2.FrameGoAway, 0, 0, slices.Concat(four(1<<31-1), four(0))) }},
	{name: "GOAWAY that drops some", do: func(s *sequence, st *stream) {
		s.send(http2.FrameGoAway, 0, 0, slices.Concat(four(st.id), four(uint32(s.dice.IntN(3))), []byte(strings.Repeat("why", s.dice.IntN(3)))))
	}},
	{name: "GOAWAY twice", do: func(s *sequence, st *stream) {
		s.send(http2.FrameGoAway, 0, 0, slices.Concat(four(1<<31-1), four(0)))
		s.send(http2.FrameGoAway, 0, 0, slices.Concat(four(st.id), four(0)))
	}},
	{name: "RST_STREAM behind the header", state: begun, do: func(s *sequence, st *stream) { s.reset(st, http2.ErrCode(s.dice.IntN(14))) }},
	{name: "RST_STREAM with a code that is unknown", state: begun, do: func(s *sequence, st *stream) { s.reset(st, 0xdead) }},
	{name: "RST_STREAM behind the end", state: ended, do: func(s *sequence, st *stream) {
		s.send(http2.FrameRSTStream, 0, st.id, binary.BigEndian.AppendUint32(nil, 0))
	}},
}
