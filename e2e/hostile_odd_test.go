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

// oddHTTP1 is strange and allowed: RFC 9112, RFC 9110.
var oddHTTP1 = []hostileCase{
	{name: "a call", send: webPost(wire.Unary, webType, emptyFrame), want: "200 OK, kept"},
	{name: "lines without CR", send: strings.ReplaceAll("POST "+wire.Unary+" HTTP/1.1\r\nHost: 127.0.0.1\r\n"+webType+"Content-Length: 5\r\n\r\n", "\r\n", "\n") + emptyFrame, want: "200 OK, kept | 400, closed"},
	{name: "empty lines before", send: "\r\n\r\n" + webPost(wire.Unary, webType, emptyFrame), want: "200 OK, kept | 400, closed"},
	{name: "names of any case", send: "POST " + wire.Unary + " HTTP/1.1\r\nhOST:127.0.0.1\r\ncontent-TYPE:APPLICATION/gRPC-Web+proto\r\nCONTENT-length:5\r\n\r\n" + emptyFrame, want: "200 OK, kept"},
	{name: "a length twice the same", send: hostileCall + webType + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n" + emptyFrame, want: "200 OK, kept | 400, closed"},
	{name: "chunks of a byte", send: webChunks(strings.Repeat("1\r\n\x00\r\n", 5) + "0\r\n\r\n"), want: "200 OK, closed"},
	{name: "chunks with zeros and extensions", send: webChunks("0005;a=b;c\r\n" + emptyFrame + "\r\n000;x=\"y\"\r\n\r\n"), want: "200 OK, closed"},
	{name: "chunks with trailers", send: webChunks("5\r\n" + emptyFrame + "\r\n0\r\nX-Tail: 1\r\nGrpc-Status: 7\r\n\r\n"), want: "200 OK, closed"},
	{name: "two calls in one packet", send: webPost(wire.Unary, webType, emptyFrame) + webPost(wire.Unary, webType, emptyFrame), want: "200 OK, 200 OK, kept"},
	{name: "close asked for", send: webPost(wire.Unary, webType+"Connection: close\r\n", emptyFrame), want: "200 OK, closed"},
	{name: "HTTP 1.0", send: "POST " + wire.Unary + " HTTP/1.0\r\nHost: 127.0.0.1\r\n" + webType + "Content-Length: 5\r\n\r\n" + emptyFrame, want: "200 OK, closed"},
	{name: "an upgrade to what nobody knows", send: webPost(wire.Unary, webType+"Connection: upgrade\r\nUpgrade: foo/2\r\n", emptyFrame), want: "200 OK, kept | 200 OK, closed"},
	{name: "names that nobody uses", send: webPost(wire.Unary, webType+"!#$%&'*+-.^_`|~: b\r\nX-: c\r\n", emptyFrame), want: "200 OK, kept"},
	{name: "values that aren't ASCII", send: webPost(wire.Unary, webType+"X-A: caf\xc3\xa9\r\nX-B: \xff\r\nX-C: a\tb\r\n", emptyFrame), want: "200 OK, kept"},
	{name: "text in lines", send: webPost(wire.Unary, webTextType, "AAAA\r\nAAA=\r\n"), want: "200 OK, kept"},
	{name: "text that is padded twice", send: webPost(wire.Unary, webTextType, "AAA=AAAA"), want: "200 OK, kept"},
}

// oddSocketCall is a call on a WebSocket, from its metadata to the half-close.
var oddSocketCall = binaryFrame(websocketHead) + binaryFrame("\x00"+emptyFrame) + binaryFrame("\x01")

const oddSocketOK = "headers, OK, close 1000"

// oddWebSocket is strange and allowed: RFC 6455, and what is said of header
// blocks.
var oddWebSocket = []hostileCase{
	{name: "a call", send: oddSocketCall, want: oddSocketOK},
	{name: "masks that aren't zeros", send: maskedFrame(fin|opBinary, websocketHead) + maskedFrame(fin|opBinary, "\x00"+emptyFrame) + maskedFrame(fin|opBinary, "\x01"), want: oddSocketOK},
	{name: "fragments", send: socketFrame(opBinary, websocketHead[:9]) + socketFrame(opContinue, "") + socketFrame(fin|opContinue, websocketHead[9:]) + socketFrame(opBinary, "") + socketFrame(opContinue, "\x00\x00") + socketFrame(fin|opContinue, "\x00\x00\x00\x00") + socketFrame(opBinary, "\x01") + socketFrame(fin|opContinue, ""), want: oddSocketOK},
	{name: "pings between fragments", send: socketFrame(fin|opPing, "a") + socketFrame(opBinary, websocketHead[:9]) + socketFrame(fin|opPing, strings.Repeat("b", 125)) + socketFrame(fin|opContinue, websocketHead[9:]) + socketFrame(fin|opPong, "nobody asked") + binaryFrame("\x01"), want: oddSocketOK},
	{name: "lengths in more bytes than they need", send: longFrame(126, websocketHead) + longFrame(127, "\x00"+emptyFrame) + longFrame(127, "\x01"), want: oddSocketOK + " | close 1002"},
	{name: "no metadata at all", send: binaryFrame("") + binaryFrame("\x01"), want: oddSocketOK},
	{name: "metadata without CR, in any case, without an end", send: binaryFrame("Content-TYPE:application/grpc-web+proto\nX-A:1\nX-A:  2  \nX-B-Bin: AAEC, /w==") + binaryFrame("\x01"), want: oddSocketOK},
	{name: "metadata with empty lines behind it", send: binaryFrame(websocketHead+"\r\n\r\n") + binaryFrame("\x01"), want: oddSocketOK},
	{name: "data of nothing", send: binaryFrame(websocketHead) + strings.Repeat(binaryFrame("\x00"), 10) + binaryFrame("\x01"), want: oddSocketOK},
	{name: "a frame in many messages, many in one", send: binaryFrame(websocketHead) + binaryFrame("\x00\x00") + binaryFrame("\x00\x00\x00\x00") + binaryFrame("\x00\x00"+emptyFrame+emptyFrame) + binaryFrame("\x01"), want: oddSocketOK},
	{name: "a close without a code", send: binaryFrame(websocketHead) + socketFrame(fin|opClose, ""), want: "close | close 1000 | close 1005"},
	{name: "close 1014", send: binaryFrame(websocketHead) + closeFrame(1014, ""), want: "close 1014 | close 1000"},
	{name: "close 3000", send: binaryFrame(websocketHead) + closeFrame(3000, "a reason"), want: "close 3000 | close 1000"},
	{name: "close 4999 of 125 bytes", send: binaryFrame(websocketHead) + closeFrame(4999, strings.Repeat("a", 123)), want: "close 4999 | close 1000"},
}

// maskedFrame is a client's frame, masked as a browser does.
func maskedFrame(first byte, payload string) string {
	mask := "\xde\xad\xbe\xef"
	masked := []byte(payload)
	for i := range masked {
		masked[i] ^= mask[i%4]
	}
	return string([]byte{first, maskBit | byte(len(masked))}) + mask + string(masked)
}

// longFrame is a binary frame whose length is written in the form that 126 or 127
// begins.
func longFrame(form byte, payload string) string {
	length := []byte{0, byte(len(payload))}
	if form == 127 {
		length = append(make([]byte, 6), length...)
	}
	return string([]byte{fin | opBinary, maskBit | form}) + string(length) + maskOfZeros + payload
}

// byteData is DATA in frames of a byte.
func byteData(stream uint32, b string) string {
	var out strings.Builder
	for i := range len(b) {
		out.WriteString(data(stream, false, b[i:i+1]))
	}
	return out.String()
}
