package h2

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
)

// fault writes something that no client may send, or that few do.
func (w *writer) fault() {
	pick(w, w.faultyRequest, w.faultyRequest, w.faultyRequest, w.faultyRequest, w.faultyTrailers, w.faultyBlock, w.faultyContinuation,
		w.faultyState, w.faultyState, w.faultySettings, w.faultySettings, w.faultyWindow, w.faultySize, w.faultyPriority, w.faultyStream, w.rest)()
}

// faultyRequest has a header that is malformed, or odd. RFC 9113 §8.2, §8.3.
func (w *writer) faultyRequest() {
	fields := w.fields(w.next)
	set := func(name, value string) {
		for i := range fields {
			if fields[i].name == name {
				fields[i].value = value
			}
		}
	}
	without := func(name string) {
		fields = slices.DeleteFunc(fields, func(f headerField) bool { return f.name == name })
	}
	add := func(list ...headerField) { fields = append(fields, list...) }
	pseudo := pick(w, ":method", ":scheme", ":authority", ":path")
	switch w.dice.IntN(24) {
	case 0:
		without(pseudo)
	case 1:
		fields = append([]headerField{{pseudo, pick(w, "", "x", "http", "/")}}, fields...) // twice
	case 2:
		add(headerField{pseudo, "/behind/others"})
		if w.odds(2) {
			fields = slices.DeleteFunc(fields[:len(fields)-1], func(f headerField) bool { return f.name == pseudo })
			add(headerField{pseudo, "/behind/others"})
		}
	case 3:
		fields = append([]headerField{{pick(w, ":status", ":protocol", ":odd", ":", ":Path"), pick(w, "200", "websocket", "")}}, fields...)
	case 4:
		set(pseudo, "")
	case 5:
		set(":path", pick(w, "*", "a.B/C", "http://localhost/x", "/a b", "/%zz", "/\x7f", "/a#b", "?x", "/ä"))
	case 6:
		set(":scheme", pick(w, "ftp", "HTTP", "h"))
	case 7:
		set(":method", pick(w, "CONNECT", "OPTIONS", "P OST", "post", "PÖST", "PRI"))
		if w.odds(2) {
			set(":path", "*")
		}
	case 8:
		set(":authority", pick(w, "a@b", "local host", "localhost/x", "[::1]:80", "ä", "a,b", "localhost:99999", "\"x\""))
	case 9:
		fields = []headerField{{":method", "CONNECT"}, {":authority", "example.com:443"}, {"x-stream", strconv.FormatUint(uint64(w.next), 10)}}
		if w.odds(2) {
			fields = append([]headerField{{pick(w, ":scheme", ":path", ":protocol"), pick(w, "http", "", "/")}}, fields...)
		}
	case 10:
		add(headerField{"host", pick(w, "localhost", "other", "", "a b", "a@b")})
	case 11:
		without(":authority")
		add(headerField{"host", pick(w, "localhost", "other", "", "a b", "a@b")})
	case 12:
		add(headerField{"host", "localhost"}, headerField{"host", pick(w, "localhost", "other")})
	case 13:
		add(headerField{pick(w, "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"), pick(w, "close", "chunked", "")})
	case 14:
		add(headerField{"te", pick(w, "gzip", "", "Trailers", "trailers, gzip")})
	case 15:
		add(headerField{pick(w, "X-Upper", "x y", "x:y", "", "x\x00", "xä", "x\n", "(x)"), "v"})
	case 16:
		add(headerField{"x-value", pick(w, "a\nb", "a\rb", "a\x00b", " a", "a ", "\ta", "a\x7f", "\x01")})
	case 17:
		add(headerField{"content-length", pick(w, "-1", "+1", "1x", "", " 1", "0x1", "18446744073709551616", "9223372036854775808", "7", "0")})
	case 18:
		add(headerField{"content-length", pick(w, "3", "4")}, headerField{"content-length", pick(w, "3", "4", "x")})
	case 19:
		for n := w.dice.IntN(3*maxHeader) / 20; n > 0; n-- {
			add(headerField{"x-many", strings.Repeat("m", 20)})
		}
	case 20:
		add(headerField{"x-large", strings.Repeat("L", w.dice.IntN(4*maxHeader))})
	case 21:
		add(headerField{"trailer", pick(w, "content-length", "transfer-encoding, x-a", "trailer", "host", "x-a,,x-b", " x-a ", "x y", "Te")})
	case 22:
		add(headerField{"expect", pick(w, "100-Continue", "x, 100-continue", "later")})
	case 23:
		add(headerField{pick(w, "x-http-method-override", "proxy-authorization", "content-length"), "1"})
	}
	w.requestOf(fields)
}

// faultyTrailers end a request otherwise than trailers may. RFC 9113 §8.1.
func (w *writer) faultyTrailers() {
	fields := w.fields(w.next)
	fields = append(slices.DeleteFunc(fields, func(f headerField) bool { return f.name == "trailer" }), headerField{"trailer", "x-a, connection, content-length, host, te"})
	w.streams = append(w.streams, &written{id: w.next, left: -1, ended: true})
	id := w.next
	w.next += 2
	w.headers(id, false, fields)
	if w.odds(2) {
		w.dataOf(id, false, 5)
	}
	end := !w.odds(4)
	w.headers(id, end, []headerField{{"x-a", "1"}, pick(w, headerField{"x-b", ""}, headerField{":path", "/"}, headerField{":status", "200"}, headerField{"connection", "close"},
		headerField{"content-length", "5"}, headerField{"host", "x"}, headerField{"te", "gzip"}, headerField{"X-Upper", ""}, headerField{"x-value", "a\nb"}, headerField{"transfer-encoding", "chunked"},
		headerField{"x-large", strings.Repeat("L", 2*maxHeader)})})
	if w.odds(2) {
		pick(w, func() { w.dataOf(id, true, 5) }, func() { w.headers(id, true, []headerField{{"x-a", "3"}}) })()
	}
}

// faultyBlock is not HPACK. RFC 7541.
func (w *writer) faultyBlock() {
	id := w.next
	w.next += 2
	w.streams = append(w.streams, &written{id: id, left: -1, ended: true})
	w.blockFrames(id, true, pick(w,
		[]byte{0x80}, // index 0
		[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, // an integer without end
		[]byte{0xbe + byte(w.dice.IntN(60))},                                     // an entry that may not be
		[]byte{0x3f, 0xe1, 0x7f},                                                 // a table that is too large
		[]byte{0x82, 0x20},                                                       // a change of the table behind a field
		[]byte{0x20, 0x3f, 0xe1, 0x1f, 0x82},                                     // two changes, without a path
		[]byte{0x00, 0x0a, 'c'},                                                  // a name that is cut
		[]byte{0x00, 0x81, 0xff, 0x01, 'v'},                                      // Huffman's EOS
		[]byte("\x82\x86\x84\x00\x04:odd\x01v\x00\x01y\x81\xff"),                 // Huffman's EOS behind a malformed field
		nil, // nothing
	))
}

// plainBlock is a request's that changes no table.
func plainBlock(id uint32) []byte {
	value := strconv.FormatUint(uint64(id), 10)
	return slices.Concat([]byte{0x82, 0x86, 0x84, 0x01, 1, 'h', 0, byte(len(streamField))}, []byte(strings.ToLower(streamField)), []byte{byte(len(value))}, []byte(value))
}

// faultyContinuation breaks a header block off, or goes on with none. RFC 9113 §6.10.
func (w *writer) faultyContinuation() {
	id := w.next
	w.next += 2
	block := plainBlock(id)
	switch w.dice.IntN(5) {
	case 0:
		w.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, pick(w, 0, w.any(), id), block)
	case 1:
		w.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, id, block[:3])
		pick(w, func() { w.dataOf(id, false, 3) }, w.settings, w.priority, func() { w.frame(0xbe, 0, id, nil) }, func() { w.windowUpdate(0, 1) })()
	case 2:
		w.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, id, block[:3])
		w.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, pick(w, 0, id+2), block[3:])
	case 3:
		w.streams = append(w.streams, &written{id: id, left: -1, ended: true})
		w.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, id, block)
		for n := pick(w, 1, 5, 300); n > 0; n-- {
			w.frame(http2.FrameContinuation, 0, id, nil)
		}
		w.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, id, nil)
	case 4:
		// A field that is malformed in the first of two frames.
		w.streams = append(w.streams, &written{id: id, left: -1, ended: true})
		w.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, id, append(bytes.Clone(block), "\x00\x01X\x01v"...))
		w.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, id, []byte("\x00\x01y\x01v"))
	}
}

// faultyState is a frame for a stream in another state. RFC 9113 §5.1.
func (w *writer) faultyState() {
	id := pick(w, w.any(), w.any(), w.next, max(w.next, 3)-2, max(w.next, 5)-4, w.next+20, 2, 0)
	switch w.dice.IntN(6) {
	case 0:
		w.dataOf(id, w.odds(2), w.dice.IntN(10))
	case 1:
		w.headers(id, w.odds(2), w.fields(id))
	case 2:
		w.word(http2.FrameRSTStream, id, uint32(http2.ErrCodeCancel))
	case 3:
		w.windowUpdate(id, 10)
	case 4:
		w.headers(id, true, []headerField{{pick(w, "x-a", "X-Upper"), "1"}})
	case 5:
		w.frame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, id, append(binary.BigEndian.AppendUint32(nil, 2), 0x82))
	}
}

// faultySettings has values, lengths or acknowledgements that may not be. RFC 9113 §6.5.
func (w *writer) faultySettings() {
	one := appendSetting(nil, http2.SettingMaxHeaderListSize, 7)
	switch w.dice.IntN(8) {
	case 0:
		w.frame(http2.FrameSettings, 0, 0, appendSetting(nil,
			pick(w, http2.SettingEnablePush, http2.SettingInitialWindowSize, http2.SettingMaxFrameSize, http2.SettingEnableConnectProtocol, http2.SettingNoRFC7540Priorities),
			pick(w, uint32(2), 1<<31, 1<<32-1, 16383, 1<<24)))
	case 1:
		w.frame(http2.FrameSettings, 0, 0, append(bytes.Clone(one), one...))
	case 2:
		w.frame(http2.FrameSettings, 0, 0, bytes.Repeat(one, pick(w, 100, 101)))
	case 3:
		w.frame(http2.FrameSettings, 0, pick(w, 1, w.next), one)
	case 4:
		w.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, pick(w, one, nil, nil))
	case 5:
		w.frame(http2.FrameSettings, http2.FlagSettingsAck, pick(w, uint32(0), 1), nil)
	case 6:
		var p []byte
		for i := range pick(w, 100, 101) {
			p = appendSetting(p, http2.SettingID(0x100+i), 1)
		}
		w.frame(http2.FrameSettings, 0, 0, p)
	case 7:
		w.frame(http2.FrameSettings, 0, 0, one[:w.dice.IntN(6)])
	}
}

// faultyWindow opens windows too far or not, or sends beyond them. RFC 9113 §6.9.
func (w *writer) faultyWindow() {
	id := pick(w, 0, w.any(), w.any(), w.next)
	switch w.dice.IntN(4) {
	case 0:
		w.windowUpdate(id, 0)
	case 1:
		w.windowUpdate(id, 1<<31-1)
	case 2:
		w.frame(http2.FrameSettings, 0, 0, appendSetting(nil, http2.SettingInitialWindowSize, 1<<31-1))
		if w.odds(2) {
			w.windowUpdate(id, 1)
		}
	case 3:
		for range 5 {
			w.dataOf(id, false, maxFrameBytes-20)
		}
	}
}

// faultySize is a frame of a size that its kind doesn't have. RFC 9113 §4.2.
func (w *writer) faultySize() {
	kind := pick(w, http2.FramePing, http2.FrameRSTStream, http2.FrameWindowUpdate, http2.FramePriority, http2.FrameGoAway, http2.FrameSettings)
	w.frame(kind, 0, pick(w, 0, w.any(), w.next), make([]byte, w.dice.IntN(12)))
}

// faultyPriority is of a stream on itself, or on none. RFC 9113 §6.3.
func (w *writer) faultyPriority() {
	id := pick(w, 0, w.any(), w.any(), w.next)
	on := pick(w, id, id, w.next)
	p := append(binary.BigEndian.AppendUint32(nil, on), 16)
	switch w.dice.IntN(5) {
	case 0, 1:
		w.frame(http2.FramePriority, 0, id, p)
		return
	case 2:
		flags := http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream | http2.FlagHeadersPriority
		w.frame(http2.FrameHeaders, flags, id, append(p, "\x00\x03x-a\x011"...))
		w.end(id)
		return
	}
	id = w.next
	w.next += 2
	w.streams = append(w.streams, &written{id: id, left: -1, ended: true})
	w.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream|http2.FlagHeadersPriority, id,
		append(append(binary.BigEndian.AppendUint32(nil, pick(w, id, id-2)), 16), plainBlock(id)...))
}

// faultyStream has a number that it may not have, or padding that doesn't fit. RFC 9113
// §5.1.1, §6.1.
func (w *writer) faultyStream() {
	switch w.dice.IntN(5) {
	case 0:
		w.next += uint32(pick(w, 1, 1000))
		w.request()
		w.next |= 1
	case 1:
		w.next = max(w.next, 5) - 4
		w.request()
		w.next += 4
	case 2:
		w.frame(http2.FrameData, http2.FlagDataPadded|http2.Flags(w.dice.IntN(2)), w.any(), pick(w, []byte{}, []byte{1}, []byte("\x05abc"), []byte{0}, []byte{2, 0, 0}))
	case 3:
		id := w.next
		w.next += 2
		w.frame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream|http2.Flags(pick(w, 0, 0x20)), id,
			pick(w, []byte{}, []byte{1}, []byte("\x05\x82\x86\x84\x01\x01"), []byte("\x09\x82\x86\x84"), append([]byte{0}, plainBlock(id)...), []byte("\x00\x00\x00\x00\x00")))
	case 4: // below one that is malformed
		id := w.next
		w.next += 4
		w.blockFrames(id+2, true, []byte("\x82\x86\x84\x00\x01X\x01v"))
		pick(w, func() { w.dataOf(id, true, 5) }, func() { w.windowUpdate(id, 1) }, func() { w.word(http2.FrameRSTStream, id, 8) }, func() { w.headers(id, true, w.fields(id)) })()
	}
}

// rest is all that an ordinary sequence has none of.
func (w *writer) rest() {
	switch w.dice.IntN(4) {
	case 0:
		w.frame(http2.FrameGoAway, 0, pick(w, uint32(0), 0, 0, 1), make([]byte, 8))
	case 1:
		w.frame(http2.FramePing, http2.FlagPingAck, 0, []byte("whatever"))
	case 2:
		b := make([]byte, w.dice.IntN(40))
		for i := range b {
			b[i] = byte(w.dice.Uint32())
		}
		w.out = append(w.out, b...)
	case 3:
		w.frame(http2.FrameSettings, 0, 0, nil)
	}
}
