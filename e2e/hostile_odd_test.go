package e2e

import (
	"strings"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// oddCall is a whole call, as stream 1.
var oddCall = headers(1, false, wire.Unary) + data(1, true, string(oracleOne))

// oddBlock is the header block of a call.
var oddBlock = fields(":method", "POST", ":scheme", "http", ":path", wire.Unary, ":authority", "127.0.0.1", "content-type", "application/grpc", "te", "trailers")

// bytewise is a header block in frames of a byte.
func bytewise(stream uint32, block string) string {
	var out strings.Builder
	for i := range len(block) {
		kind, flags := http2.FrameContinuation, http2.Flags(0)
		if i == 0 {
			kind = http2.FrameHeaders
		}
		if i == len(block)-1 {
			flags = http2.FlagHeadersEndHeaders // CONTINUATION's is the same
		}
		out.WriteString(h2(kind, flags, stream, block[i:i+1]))
	}
	return out.String()
}

const oddOK = "1: 200 OK, alive"

// oddHTTP2 is strange and allowed: RFC 9113, RFC 7541.
var oddHTTP2 = []hostileCase{
	{name: "a call", send: oddCall, want: oddOK},
	{name: "settings that nobody knows", send: h2(http2.FrameSettings, 0, 0, setting(0xbeef, 1)+setting(0xffff, 1<<31)) + oddCall, want: oddOK},
	{name: "settings that say a thing twice", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1)+setting(http2.SettingInitialWindowSize, 65535)) + oddCall, want: oddOK + " | " + protocolError}, // net/http: as a duplicate
	{name: "frames that nobody knows", send: h2(0xbe, 0xff, 0, "abc") + headers(1, false, wire.Unary) + h2(0xbf, 0xff, 1, "abc") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "the reserved bit of a stream", send: headers(1|1<<31, false, wire.Unary) + data(1|1<<31, true, string(oracleOne)), want: oddOK},
	{name: "flags that nobody knows", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders|0xd2, 1, oddBlock) + h2(http2.FrameData, http2.FlagDataEndStream|0xf6, 1, string(oracleOne)), want: oddOK},
	{name: "a header of padding and priority", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersPadded|http2.FlagHeadersPriority, 1, "\x03"+word(0)+"\x10"+oddBlock+"\x00\x00\x00") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "a header by bytes", send: bytewise(1, oddBlock) + data(1, true, string(oracleOne)), want: oddOK},
	{name: "a header that ends in nothing", send: h2(http2.FrameHeaders, 0, 1, oddBlock) + h2(http2.FrameContinuation, 0, 1, "") + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, "") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "data of padding", send: headers(1, false, wire.Unary) + h2(http2.FrameData, http2.FlagDataPadded, 1, "\xff"+string(oracleOne[:3])+strings.Repeat("\x00", 255)) + h2(http2.FrameData, http2.FlagDataPadded|http2.FlagDataEndStream, 1, "\x00"+string(oracleOne[3:])), want: oddOK},
	{name: "data by bytes", send: headers(1, false, wire.Unary) + byteData(1, string(oracleOne)) + data(1, true, ""), want: oddOK},
	{name: "nothing between data", send: headers(1, false, wire.Unary) + data(1, false, "") + data(1, false, string(oracleOne)) + data(1, false, "") + data(1, true, ""), want: oddOK},
	{name: "trailers", send: headers(1, false, wire.Unary) + data(1, false, string(oracleOne)) + request(1, true, "x-tail", "1"), want: oddOK},
	{name: "a content-length that is right", send: headers(1, false, wire.Unary, "content-length", "23") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "priorities of idle streams", send: h2(http2.FramePriority, 0, 7, word(3)+"\x10") + h2(http2.FramePriority, 0, 2, word(0)+"\x10") + oddCall, want: oddOK},
	{name: "a window for an answer that has none", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 0)) + oddCall + h2(http2.FrameWindowUpdate, 0, 1, word(1000)), want: oddOK},
	{name: "a window that settings open", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 0)) + oddCall + h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1000)), want: oddOK},
	{name: "a window by bytes", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 0)) + oddCall + strings.Repeat(h2(http2.FrameWindowUpdate, 0, 1, word(1)), 100), want: oddOK},
	{name: "no dynamic table", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingHeaderTableSize, 0)) + oddCall, want: oddOK},
	{name: "HPACK: a table of another size", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x20\x3f\xe1\x1f"+oddBlock) + data(1, true, string(oracleOne)), want: oddOK},
	{name: "HPACK: fields that are never indexed", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, oddBlock+"\x10\x03x-a\x01b"+"\x00\x03x-c\x01d") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "HPACK: two calls of one table", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, oddBlock) + data(1, true, string(oracleOne)) + h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, "\x83\x86\xc1\xc0\xbf\xbe") + data(3, true, string(oracleOne)), want: "1: 200 OK, 3: 200 OK, alive"},
	{name: "a stream that skips", send: headers(2_000_001, false, wire.Unary) + data(2_000_001, true, string(oracleOne)), want: "2000001: 200 OK, alive"},
	{name: "the last stream", send: headers(1<<31-1, false, wire.Unary) + data(1<<31-1, true, string(oracleOne)), want: "2147483647: 200 OK, alive"},
	{name: "a window for a stream that has ended", send: oddCall + h2(http2.FrameWindowUpdate, 0, 1, word(1)) + h2(http2.FrameRSTStream, 0, 3, word(8)), want: protocolError + " | " + oddOK},
	{name: "a reset of what has ended", send: headers(1, true, "/nothing") + h2(http2.FrameRSTStream, 0, 1, word(8)), want: "1: 404, alive | alive"},
	{name: "no te", send: request(1, false, ":method", "POST", ":scheme", "http", ":path", wire.Unary, ":authority", "127.0.0.1", "content-type", "application/grpc") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "host for :authority", send: request(1, false, ":method", "POST", ":scheme", "http", ":path", wire.Unary, "host", "127.0.0.1", "content-type", "application/grpc", "te", "trailers") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "cookies in crumbs", send: headers(1, false, wire.Unary, "cookie", "a=b", "cookie", "c=d") + data(1, true, string(oracleOne)), want: oddOK},
	{name: "the client's goodbye", send: headers(1, false, wire.Unary) + h2(http2.FrameGoAway, 0, 0, word(0)+word(0)) + data(1, true, string(oracleOne)), want: oddOK + " | 1: 200 OK, closed | GOAWAY NO_ERROR, closed"},
	{name: "https for the scheme", send: request(1, false, ":method", "POST", ":scheme", "https", ":path", wire.Unary, ":authority", "127.0.0.1", "content-type", "application/grpc", "te", "trailers") + data(1, true, string(oracleOne)), want: oddOK},
}

// byteData is DATA in frames of a byte.
func byteData(stream uint32, b string) string {
	var out strings.Builder
	for i := range len(b) {
		out.WriteString(data(stream, false, b[i:i+1]))
	}
	return out.String()
}
