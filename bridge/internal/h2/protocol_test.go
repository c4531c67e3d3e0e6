package h2

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// stuck reads nothing until its request is over.
func stuck(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// frame writes a frame of any kind and content.
func (p *peer) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	p.must(p.framer.WriteRawFrame(kind, flags, id, []byte(payload)))
}

func word(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }

func setting(id http2.SettingID, v uint32) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(id))) + word(v)
}

// TestErrorsOfTheConnection end it with GOAWAY. RFC 9113 §5.4.1.
func TestErrorsOfTheConnection(t *testing.T) {
	address := serve(t, stuck)
	for name, c := range map[string]struct {
		want http2.ErrCode
		send func(p *peer)
	}{
		"SETTINGS on a stream":            {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameSettings, 0, 1, "") }},
		"SETTINGS of 5 bytes":             {http2.ErrCodeFrameSize, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, "12345") }},
		"SETTINGS acknowledged with more": {http2.ErrCodeFrameSize, func(p *peer) { p.frame(http2.FrameSettings, 1, 0, setting(1, 1)) }},
		"SETTINGS nobody sent":            {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameSettings, 1, 0, "") }},
		"101 settings":                    {http2.ErrCodeEnhanceYourCalm, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, strings.Repeat(setting(99, 1), 101)) }},
		"push of 2":                       {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingEnablePush, 2)) }},
		"initial window of 2^31":          {http2.ErrCodeFlowControl, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1<<31)) }},
		"initial window that overflows": {http2.ErrCodeFlowControl, func(p *peer) {
			p.headers(1, false)
			p.must(p.framer.WriteWindowUpdate(1, 1<<30))
			p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1<<31-1))
		}},
		"frames of 16383":           {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingMaxFrameSize, 1<<14-1)) }},
		"frames of 2^24":            {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingMaxFrameSize, 1<<24)) }},
		"a frame that is too large": {http2.ErrCodeFrameSize, func(p *peer) { p.frame(http2.FrameData, 0, 1, strings.Repeat("a", maxFrameBytes+1)) }},
		"much that is no frame":     {http2.ErrCodeFrameSize, func(p *peer) { p.out.WriteString(strings.Repeat("\xff", 300_000)) }},
		"a large frame of no kind":  {http2.ErrCodeFrameSize, func(p *peer) { p.frame(99, 0, 1, strings.Repeat("a", maxFrameBytes+1)) }},
		"DATA on stream 0":          {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameData, 0, 0, "a") }},
		"DATA on an idle stream":    {http2.ErrCodeProtocol, func(p *peer) { p.data(1, false, "a") }},
		"DATA padded beyond itself": {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false); p.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x05abc") }},
		"HEADERS on stream 0":       {http2.ErrCodeProtocol, func(p *peer) { p.headers(0, true) }},
		"HEADERS on stream 2":       {http2.ErrCodeProtocol, func(p *peer) { p.headers(2, true) }},
		"DATA on stream 2":          {http2.ErrCodeProtocol, func(p *peer) { p.headers(3, false); p.data(2, false, "a message") }},
		"RST_STREAM on stream 2":    {http2.ErrCodeProtocol, func(p *peer) { p.headers(3, false); p.frame(http2.FrameRSTStream, 0, 2, word(8)) }},
		"WINDOW_UPDATE on stream 2": {http2.ErrCodeProtocol, func(p *peer) { p.headers(3, false); p.frame(http2.FrameWindowUpdate, 0, 2, word(1)) }},
		"PRIORITY of 4 bytes on an idle stream": {http2.ErrCodeFrameSize, func(p *peer) {
			p.frame(http2.FramePriority, 0, 1, "abcd")
			p.headers(1, true)
		}},
		"an idle stream that waits for itself": {http2.ErrCodeProtocol, func(p *peer) {
			p.frame(http2.FramePriority, 0, 1, word(1)+"\x00")
			p.headers(1, true)
		}},
		"extended CONNECT of 2":     {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingEnableConnectProtocol, 2)) }},
		"no priorities of 2":        {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingNoRFC7540Priorities, 2)) }},
		"HEADERS on a lower stream": {http2.ErrCodeProtocol, func(p *peer) { p.headers(5, true); p.headers(3, true) }},
		"HEADERS too short for priority": {http2.ErrCodeFrameSize, func(p *peer) {
			p.frame(http2.FrameHeaders, http2.FlagHeadersPriority|http2.FlagHeadersEndHeaders, 1, "abc")
		}},
		"HEADERS padded beyond":        {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameHeaders, http2.FlagHeadersPadded, 1, "\xffabc") }},
		"RST_STREAM on stream 0":       {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameRSTStream, 0, 0, word(8)) }},
		"RST_STREAM on an idle stream": {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameRSTStream, 0, 1, word(8)) }},
		"RST_STREAM of 3 bytes":        {http2.ErrCodeFrameSize, func(p *peer) { p.headers(1, false); p.frame(http2.FrameRSTStream, 0, 1, "abc") }},
		"PRIORITY on stream 0":         {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FramePriority, 0, 0, "abcde") }},
		"PING on a stream":             {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FramePing, 0, 1, "12345678") }},
		"PING of 7 bytes":              {http2.ErrCodeFrameSize, func(p *peer) { p.frame(http2.FramePing, 0, 0, "1234567") }},
		"GOAWAY on a stream":           {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameGoAway, 0, 1, word(0)+word(0)) }},
		"GOAWAY of 7 bytes":            {http2.ErrCodeFrameSize, func(p *peer) { p.frame(http2.FrameGoAway, 0, 0, "1234567") }},
		"PUSH_PROMISE":                 {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false); p.frame(http2.FramePushPromise, 4, 1, word(2)) }},
		"WINDOW_UPDATE of 0":           {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 0, word(0)) }},
		"WINDOW_UPDATE of 3 bytes":     {http2.ErrCodeFrameSize, func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 0, "abc") }},
		"WINDOW_UPDATE on an idle":     {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 1, word(1)) }},
		"a window beyond 2^31":         {http2.ErrCodeFlowControl, func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 0, word(maxWindow)) }},
		"CONTINUATION without HEADERS": {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameContinuation, 4, 1, "") }},
		"a block broken off by PING": {http2.ErrCodeProtocol, func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, "")
			p.frame(http2.FramePing, 0, 0, "12345678")
		}},
		"a block broken off by an unknown frame": {http2.ErrCodeProtocol, func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, "")
			p.frame(99, 0, 0, "")
		}},
		"CONTINUATION of another stream": {http2.ErrCodeProtocol, func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, "")
			p.frame(http2.FrameContinuation, 4, 3, "")
		}},
		"CONTINUATION for ever": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, "")
			for range maxContinuations {
				p.frame(http2.FrameContinuation, 0, 1, "")
			}
		}},
		"a block that is much too large": {http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, string(p.fields(post...)))
			for range 4 {
				p.frame(http2.FrameContinuation, 0, 1, string(p.fields("x-a", strings.Repeat("\\", 10<<10))))
			}
		}},
		"HPACK of index 0":         {http2.ErrCodeCompression, func(p *peer) { p.frame(http2.FrameHeaders, 5, 1, "\x80") }},
		"HPACK of an index beyond": {http2.ErrCodeCompression, func(p *peer) { p.frame(http2.FrameHeaders, 5, 1, "\xff\x80\x80\x04") }},
		"HPACK cut":                {http2.ErrCodeCompression, func(p *peer) { p.frame(http2.FrameHeaders, 5, 1, "\x40\x05ab") }},
		"HPACK of a table beyond":  {http2.ErrCodeCompression, func(p *peer) { p.frame(http2.FrameHeaders, 5, 1, "\x3f\xff\xff\xff\x7f") }},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := dialPeer(t, address)
			p.t = t
			c.send(p)
			p.flush()
			p.wantGoAway(c.want)
		})
	}
}

// TestErrorsOfAStream reset it, and the connection serves on. RFC 9113 §5.4.2,
// §8.1.1.
func TestErrorsOfAStream(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/alive" {
			stuck(w, r)
		}
	})
	request := func(list ...string) func(p *peer) { return func(p *peer) { p.raw(1, true, list...) } }
	with := func(list ...string) func(p *peer) { return func(p *peer) { p.headers(1, true, list...) } }
	for name, c := range map[string]struct {
		want http2.ErrCode
		send func(p *peer)
	}{
		"WINDOW_UPDATE of 0":                  {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false); p.frame(http2.FrameWindowUpdate, 0, 1, word(0)) }},
		"a window beyond 2^31":                {http2.ErrCodeFlowControl, func(p *peer) { p.headers(1, false); p.frame(http2.FrameWindowUpdate, 0, 1, word(maxWindow)) }},
		"PRIORITY of 4 bytes":                 {http2.ErrCodeFrameSize, func(p *peer) { p.headers(1, false); p.frame(http2.FramePriority, 0, 1, "abcd") }},
		"a stream that waits for itself":      {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false); p.frame(http2.FramePriority, 0, 1, word(1)+"\x00") }},
		"HEADERS that wait for it":            {http2.ErrCodeProtocol, func(p *peer) { p.frame(http2.FrameHeaders, 0x25, 1, word(1)+"\x00"+string(p.fields(post...))) }},
		"DATA behind the end":                 {http2.ErrCodeStreamClosed, func(p *peer) { p.headers(1, true); p.data(1, false, "a") }},
		"HEADERS after the end of the stream": {http2.ErrCodeStreamClosed, func(p *peer) { p.headers(1, true); p.raw(1, true, "x-a", "b") }},
		"more than the window": {http2.ErrCodeFlowControl, func(p *peer) {
			p.headers(1, false)
			for range 5 {
				p.data(1, false, strings.Repeat("a", 16<<10))
			}
		}},
		"more than the content-length":    {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false, "content-length", "2"); p.data(1, false, "abc") }},
		"less than the content-length":    {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false, "content-length", "4"); p.data(1, true, "abc") }},
		"less, and then trailers":         {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false, "content-length", "4"); p.raw(1, true, "x-a", "b") }},
		"a content-length and no content": {http2.ErrCodeProtocol, with("content-length", "4")},
		"two content-lengths":             {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false, "content-length", "4", "content-length", "5") }},
		"a content-length of +4":          {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false, "content-length", "+4") }},
		"trailers without END_STREAM":     {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false); p.raw(1, false, "x-a", "b") }},
		"connection in trailers":          {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false); p.raw(1, true, "connection", "close") }},
		"host in trailers":                {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false, "trailer", "host"); p.raw(1, true, "host", "x") }},
		"a pseudo-header in trailers":     {http2.ErrCodeProtocol, func(p *peer) { p.headers(1, false); p.raw(1, true, ":path", "/") }},
		"an upper-case name":              {http2.ErrCodeProtocol, with("X-a", "b")},
		"a name with a blank":             {http2.ErrCodeProtocol, with("x a", "b")},
		"no name":                         {http2.ErrCodeProtocol, with("", "b")},
		"a value with a line's end":       {http2.ErrCodeProtocol, with("x-a", "b\r\nx-b: c")},
		"a value with NUL":                {http2.ErrCodeProtocol, with("x-a", "b\x00")},
		"connection":                      {http2.ErrCodeProtocol, with("connection", "close")},
		"transfer-encoding":               {http2.ErrCodeProtocol, with("transfer-encoding", "chunked")},
		"te: gzip":                        {http2.ErrCodeProtocol, with("te", "gzip")},
		"an unknown pseudo-header":        {http2.ErrCodeProtocol, request(append(post[:8:8], ":unknown", "b")...)},
		":status":                         {http2.ErrCodeProtocol, request(append(post[:8:8], ":status", "200")...)},
		":protocol":                       {http2.ErrCodeProtocol, request(":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "a")},
		"a pseudo-header behind others":   {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http", "x-a", "b", ":path", "/")},
		"two methods":                     {http2.ErrCodeProtocol, request(append(post[:8:8], ":method", "GET")...)},
		"no method":                       {http2.ErrCodeProtocol, request(":scheme", "http", ":path", "/")},
		"a method with a blank":           {http2.ErrCodeProtocol, request(":method", "GE T", ":scheme", "http", ":path", "/")},
		"no scheme":                       {http2.ErrCodeProtocol, request(":method", "GET", ":path", "/")},
		"a scheme of ftp":                 {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "ftp", ":path", "/")},
		"no path":                         {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http")},
		"an empty path":                   {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http", ":path", "")},
		"a path without a slash":          {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http", ":path", "a")},
		"a path that is a URL":            {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http", ":path", "http://a/b")},
		"a path of * with GET":            {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http", ":path", "*")},
		"an authority with a user":        {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "u@a")},
		"an authority with a blank":       {http2.ErrCodeProtocol, request(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a b")},
		"two hosts":                       {http2.ErrCodeProtocol, with("host", "a", "host", "b")},
		"CONNECT with a path":             {http2.ErrCodeProtocol, request(":method", "CONNECT", ":authority", "a:1", ":path", "/")},
		"CONNECT to nobody":               {http2.ErrCodeProtocol, request(":method", "CONNECT")},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := dialPeer(t, address)
			p.t = t
			c.send(p)
			p.flush()
			p.wantReset(1, c.want)
			p.wantAlive(3)
		})
	}
}

// TestWhatMayCome is odd, and no error.
func TestWhatMayCome(t *testing.T) {
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for name, send := range map[string]func(p *peer){
		"an unknown frame":           func(p *peer) { p.frame(99, 0xff, 7, "abc") },
		"an unknown setting":         func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(99, 1)) },
		"a setting that comes twice": func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(4, 1)+setting(4, 70000)) },
		"WINDOW_UPDATE on a closed stream": func(p *peer) {
			p.headers(1, true)
			p.flush()
			p.await(1)
			p.frame(http2.FrameWindowUpdate, 0, 1, word(1))
		},
		"RST_STREAM on a closed stream":   func(p *peer) { p.headers(1, true); p.flush(); p.await(1); p.frame(http2.FrameRSTStream, 0, 1, word(8)) },
		"PRIORITY on stream 2":            func(p *peer) { p.frame(http2.FramePriority, 0, 2, word(3)+"\x10") },
		"an unknown frame on stream 2":    func(p *peer) { p.frame(99, 0, 2, "abc") },
		"extended CONNECT of 1":           func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingEnableConnectProtocol, 1)) },
		"PRIORITY on an idle stream":      func(p *peer) { p.frame(http2.FramePriority, 0, 99, word(3)+"\x10") },
		"flags that a frame doesn't have": func(p *peer) { p.frame(http2.FramePing, 0xfe, 0, "12345678") },
		"empty DATA":                      func(p *peer) { p.headers(1, false); p.data(1, false, ""); p.data(1, true, "") },
		"DATA all of padding": func(p *peer) {
			p.headers(1, false)
			p.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x02\x00\x00")
			p.data(1, true, "a")
		},
		"a block in pieces": func(p *peer) {
			b := string(p.fields(post...))
			p.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, b[:1])
			p.frame(http2.FrameContinuation, 0, 1, "")
			p.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, b[1:])
		},
		"trailers that nobody declared": func(p *peer) { p.headers(1, false); p.raw(1, true, "x-a", "b") },
		"OPTIONS *":                     func(p *peer) { p.raw(1, true, ":method", "OPTIONS", ":scheme", "http", ":path", "*") },
		"no authority":                  func(p *peer) { p.raw(1, true, ":method", "GET", ":scheme", "https", ":path", "/") },
		"PING that nobody asked for":    func(p *peer) { p.must(p.framer.WritePing(true, [8]byte{1})) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := dialPeer(t, address)
			p.t = t
			send(p)
			p.flush()
			p.wantAlive(101)
		})
	}
}

// TestFramesForStreamsThatWereCut may be under way, and are no error; those
// for streams that the client ended are one.
func TestFramesForStreamsThatWereCut(t *testing.T) {
	done := make(chan struct{}, 1)
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/alive":
		case r.Header.Get("X-Stuck") != "":
			stuck(nil, r)
		default:
			done <- struct{}{}
		}
	})
	p := dialPeer(t, address)
	p.headers(1, false, "trailer", "x-a")
	p.flush()
	await(t, "the handler", done)
	if r := p.await(1); !r.ended {
		t.Fatalf("an answer before the request's end: %v", r)
	}
	for range 20 {
		p.data(1, false, strings.Repeat("a", 1000))
	}
	p.raw(1, true, "x-a", "b")
	p.wantAlive(3)
	p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel)) // now it knows
	p.data(1, false, "x")
	p.flush()
	p.wantReset(1, http2.ErrCodeStreamClosed)

	p.headers(5, false, "x-stuck", "yes")
	p.must(p.framer.WriteRSTStream(5, http2.ErrCodeCancel))
	p.raw(5, true, "x-a", "b")
	p.flush()
	p.wantReset(5, http2.ErrCodeStreamClosed)

	p.raw(3, true, "x-a", "b")
	p.flush()
	p.wantGoAway(http2.ErrCodeStreamClosed)
}

// TestConnectionWindowComesBack also for what nobody reads: closed streams,
// padding, closed bodies.
func TestConnectionWindowComesBack(t *testing.T) {
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/alive" {
			_ = r.Body.Close() // never fails
			stuck(nil, r)
		}
	}, func(hs *http.Server) { hs.HTTP2.MaxReceiveBufferPerConnection = 64 << 10 })
	p := dialPeer(t, address)
	sent, window := 0, defaultWindow+1
	for id := uint32(1); sent < 1<<20; id += 2 {
		p.headers(id, false)
		for range 2 {
			p.frame(http2.FrameData, http2.FlagDataPadded, id, "\xff"+strings.Repeat("a", 5000)+strings.Repeat("\x00", 255))
			sent += 5256
			window -= 5256
		}
		p.must(p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		p.data(id, false, "behind the reset")
		window -= 16
		p.flush()
		for window < 20_000 {
			if f, ok := p.next().(*http2.WindowUpdateFrame); ok && f.StreamID == 0 {
				window += int(f.Increment)
			}
		}
	}
	if window > 64<<10 {
		t.Errorf("the window grew to %d", window)
	}
}

// TestTooManyStreams are refused, so that a client may try again.
func TestTooManyStreams(t *testing.T) {
	address := serve(t, stuck, func(hs *http.Server) { hs.HTTP2.MaxConcurrentStreams = 2 })
	p := dialPeer(t, address)
	p.headers(1, true)
	p.headers(3, true)
	p.headers(5, true)
	p.flush()
	p.wantReset(5, http2.ErrCodeRefusedStream)
}

// TestStreamIsOverWithItsEnd, and makes room for the next one, though its
// handler still runs: the client can't know of that.
func TestStreamIsOverWithItsEnd(t *testing.T) {
	release := make(chan struct{})
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			_ = http.NewResponseController(w).Flush() // to a client that is there: all that HEAD is answered
			<-release
		}
	}, func(hs *http.Server) { hs.HTTP2.MaxConcurrentStreams = 1 }))
	p.raw(1, true, ":method", "HEAD", ":scheme", "http", ":path", "/")
	p.flush()
	p.await(1)
	p.headers(3, true)
	p.headers(5, true)
	p.flush()
	p.wantReset(5, http2.ErrCodeRefusedStream) // with 3
	close(release)
	if r := p.await(3); r.status() != "200" {
		t.Errorf("the next request ended as %v", r)
	}
}

// TestRapidReset: handlers whose streams were reset count until they end, and
// what waits for their places is bounded. CVE-2023-44487.
func TestRapidReset(t *testing.T) {
	const streams = 4
	release, begun := make(chan struct{}), make(chan struct{}, 100)
	defer close(release)
	address := serve(t, func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-release
	}, func(hs *http.Server) { hs.HTTP2.MaxConcurrentStreams = streams })
	p := dialPeer(t, address)
	for i := range uint32(5*streams + 1) {
		p.headers(2*i+1, true)
		p.must(p.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	p.flush()
	p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	if n := len(begun); n > streams {
		t.Errorf("%d handlers ran at once, want %d", n, streams)
	}
}

// TestStreamsWaitForHandlers that outlive their own streams, and run then.
func TestStreamsWaitForHandlers(t *testing.T) {
	release, begun := make(chan struct{}), make(chan string, 100)
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		begun <- r.URL.Path
		<-release
	}, func(hs *http.Server) { hs.HTTP2.MaxConcurrentStreams = 1 })
	p := dialPeer(t, address)
	p.raw(1, true, ":method", "GET", ":scheme", "http", ":path", "/first")
	p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	p.raw(3, true, ":method", "GET", ":scheme", "http", ":path", "/reset")
	p.must(p.framer.WriteRSTStream(3, http2.ErrCodeCancel))
	p.raw(5, true, ":method", "GET", ":scheme", "http", ":path", "/last")
	p.must(p.framer.WritePing(false, [8]byte{}))
	p.flush()
	if path := await(t, "the first handler", begun); path != "/first" {
		t.Errorf("the first handler serves %s", path)
	}
	for pong := false; !pong; { // then all before it has been read
		ping, is := p.next().(*http2.PingFrame)
		pong = is && ping.IsAck()
	}
	close(release)
	if path := await(t, "the last handler", begun); path != "/last" {
		t.Errorf("then %s is served, want /last: the other was reset", path)
	}
	if r := p.await(5); !r.ended {
		t.Errorf("it ended as %v", r)
	}
}

// TestFloods of what carries nothing end the connection.
func TestFloods(t *testing.T) {
	address := serve(t, stuck)
	for name, send := range map[string]func(p *peer){
		"PING":                    func(p *peer) { p.frame(http2.FramePing, 1, 0, "12345678") },
		"SETTINGS":                func(p *peer) { p.frame(http2.FrameSettings, 0, 0, setting(99, 1)) },
		"empty DATA":              func(p *peer) { p.data(1, false, "") },
		"DATA on a closed stream": func(p *peer) { p.data(3, false, "") },
		"PRIORITY":                func(p *peer) { p.frame(http2.FramePriority, 0, 1, word(3)+"\x10") },
		"RST_STREAM":              func(p *peer) { p.frame(http2.FrameRSTStream, 0, 3, word(8)) },
		"WINDOW_UPDATE":           func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 0, word(1)) },
		"unknown frames":          func(p *peer) { p.frame(99, 0, 0, "") },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := dialPeer(t, address)
			p.t = t
			p.headers(1, false)
			p.headers(3, true)
			p.must(p.framer.WriteRSTStream(3, http2.ErrCodeCancel))
			go func() { // ends with the connection
				for err := error(nil); err == nil; p.out.Reset() {
					for range 1000 {
						send(p)
					}
					_, err = p.conn.Write(p.out.Bytes())
				}
			}()
			p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
			_ = p.conn.Close() // frees the writer
		})
	}
}

// TestWindowsThatOpenForEachMessage are no flood: some clients say so much.
func TestWindowsThatOpenForEachMessage(t *testing.T) {
	const messages = maxUseless
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return
		}
		rc := http.NewResponseController(w)
		for range messages {
			_, _ = w.Write([]byte("a")) // to a client that is there
			_ = rc.Flush()              // to a client that is there
		}
		<-r.Context().Done()
	}))
	p.headers(1, true)
	p.flush()
	for got := 0; got < messages; {
		if f, ok := p.next().(*http2.DataFrame); ok {
			got += len(f.Data())
		}
	}
	for range messages {
		p.must(p.framer.WriteWindowUpdate(0, 1))
		p.must(p.framer.WriteWindowUpdate(1, 1))
	}
	p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	p.wantAlive(3)
}

// TestAnswersThatNobodyTakes are bounded, too.
func TestAnswersThatNobodyTakes(t *testing.T) {
	ended := make(chan struct{})
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(ended)
	})
	p := dialPeer(t, address)
	p.headers(1, false)
	for range 4000 {
		p.must(p.framer.WritePing(false, [8]byte{}))
		p.must(p.framer.WritePing(false, [8]byte{}))
		p.data(1, false, "") // carries nothing either
	}
	go func() {
		for range 100 { // more than sockets hold
			if _, err := p.conn.Write(p.out.Bytes()); err != nil {
				return
			}
		}
	}()
	await(t, "the request's end", ended)
}

// TestHeaderListTooLarge is answered, and what follows works: the table was
// kept.
func TestHeaderListTooLarge(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("X-Kept")) })
	p := dialPeer(t, address)
	p.headers(1, true, "x-kept", "in the table", "x-a", strings.Repeat("a", 6000), "x-b", strings.Repeat("a", 6000), "x-c", strings.Repeat("a", 6000))
	p.flush()
	if r := p.await(1); r.status() != "431" {
		t.Errorf("it is answered %v, want 431", r)
	}
	p.headers(3, true, "x-kept", "in the table")
	p.flush()
	if r := p.await(3); r.body != "in the table" {
		t.Errorf("then comes %v", r)
	}
}

// TestSmallBlockOfALargeList: HPACK's bomb, a byte for a field.
func TestSmallBlockOfALargeList(t *testing.T) {
	address := serve(t, func(http.ResponseWriter, *http.Request) {})
	p := dialPeer(t, address)
	list := []string{":method", "POST", ":scheme", "http", ":path", "/", "x-a", strings.Repeat("\\", 4000)} // all but the last are in the static table
	p.raw(1, true, list...)
	block := p.fields(list...)
	bomb := string(block) + strings.Repeat(string(block[len(block)-1:]), 16_000)
	p.frame(http2.FrameHeaders, 5, 3, bomb)
	p.flush()
	if r := p.await(3); r.status() != "431" {
		t.Errorf("64 MB of fields are answered %v, want 431", r)
	}
	p.wantAlive(5)
}

// TestFirstFrames: SETTINGS have to be the first.
func TestFirstFrames(t *testing.T) {
	address := serve(t, stuck)
	for name, send := range map[string]func(p *peer){
		"PING":            func(p *peer) { p.must(p.framer.WritePing(false, [8]byte{})) },
		"HEADERS":         func(p *peer) { p.headers(1, true) },
		"acknowledgement": func(p *peer) { p.must(p.framer.WriteSettingsAck()) },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, conn)
			_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
			p.out.WriteString(http2.ClientPreface)
			send(p)
			p.flush()
			p.wantGoAway(http2.ErrCodeProtocol)
		})
	}
}
