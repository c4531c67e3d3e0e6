package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// webPost is a gRPC-Web call to path with further header lines.
func webPost(path, lines, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\n%sX-Grpc-Web: 1\r\nContent-Length: %d\r\n%s\r\n%s", path, hostileHost, len(body), lines, body)
}

// webChunks is one whose body is chunked; chunks has all of it.
func webChunks(chunks string) string {
	return hostileCall + webType + "Transfer-Encoding: chunked\r\n\r\n" + chunks
}

// webRefused: whether the connection goes on depends on whether the body's end
// had come by then.
const webRefused = "200 InvalidArgument BAD_REQUEST, kept | 200 InvalidArgument BAD_REQUEST, closed"

const (
	webTextType = "Content-Type: application/grpc-web-text\r\n"
	gzipType    = webType + "Grpc-Encoding: gzip\r\n"
)

// prefixed is a frame's prefix with flags and a length, and payload behind it.
func prefixed(flags byte, length uint32, payload string) string {
	b := wire.Prefix(int(length))
	b[0] = flags
	return string(b) + payload
}

func gzipped(b []byte) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // to memory
	_ = w.Close()
	return out.String()
}

var (
	// gzipBomb is 64 MiB of zeros in 64 KiB, beyond the limit of 1 MiB.
	gzipBomb = gzipped(make([]byte, 64<<20))
	gzipRest = gzipped([]byte("world"))[:20] // cut
	bigChunk = "5\r\n" + emptyFrame + "\r\n"
)

// hostileWeb: whatever is a gRPC-Web call is answered with HTTP 200 and a status
// in the body. An answer that comes before the request's end closes the
// connection.
var hostileWeb = []hostileCase{
	{name: "reserved flag", send: webPost(wire.Bidi, webType, prefixed(0x02, 0, "")), want: webRefused},
	{name: "reserved flag 0x40", send: webPost(wire.Bidi, webType, prefixed(0x40, 0, "")), want: webRefused},
	{name: "all flags", send: webPost(wire.Bidi, webType, prefixed(0xff, 0, "")), want: webRefused},
	{name: "trailers of the client", send: webPost(wire.Bidi, webType, prefixed(0x80, 16, "grpc-status: 0\r\n")), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "compressed trailers of the client", send: webPost(wire.Bidi, webType, prefixed(0x81, 0, "")), want: webRefused},
	{name: "trailers after a message", send: webPost(wire.Bidi, webType, emptyFrame+prefixed(0x80, 0, "")), want: webRefused},
	{name: "one byte", send: webPost(wire.Unary, webType, "\x00"), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "prefix cut", send: webPost(wire.Unary, webType, "\x00\x00\x00\x00"), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "message cut", send: webPost(wire.Unary, webType, prefixed(0, 8, "world")), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "second message cut", send: webPost(wire.Bidi, webType, emptyFrame+prefixed(0, 8, "world")), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "message cut by the connection", send: hostileCall + webType + "Content-Length: 100\r\n\r\n" + prefixed(0, 95, "world"), fin: true, want: "200 Canceled CLIENT_GONE, closed | closed"},
	{name: "length over the limit", send: webPost(wire.Unary, webType, prefixed(0, 1<<20+1, "world")), want: "200 ResourceExhausted REQUEST_TOO_LARGE, closed"},
	{name: "length of 32 bits", send: webPost(wire.Unary, webType, prefixed(0, 0xffffffff, "world")), want: "200 ResourceExhausted REQUEST_TOO_LARGE, closed"},
	{name: "compressed without a coding", send: webPost(wire.Unary, webType, prefixed(1, 5, "world")), want: "200 Internal BAD_REQUEST, kept"},
	{name: "unknown coding", send: webPost(wire.Unary, webType+"Grpc-Encoding: br\r\n", prefixed(1, 5, "world")), want: "200 Unimplemented UNSUPPORTED_ENCODING, kept"},
	{name: "two codings", send: webPost(wire.Unary, webType+"Grpc-Encoding: gzip, gzip\r\n", prefixed(1, 5, "world")), want: "200 Unimplemented UNSUPPORTED_ENCODING, kept"},
	{name: "no gzip", send: webPost(wire.Unary, gzipType, prefixed(1, 5, "world")), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "empty and marked as compressed", send: webPost(wire.Unary, gzipType, prefixed(1, 0, "")), want: "200 OK, kept"},
	{name: "gzip cut", send: webPost(wire.Unary, gzipType, prefixed(1, 20, gzipRest)), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "gzip bomb", send: webPost(wire.Unary, gzipType, prefixed(1, uint32(len(gzipBomb)), gzipBomb)), want: "200 ResourceExhausted REQUEST_TOO_LARGE, kept"},
	{name: "body of no gzip", send: webPost(wire.Unary, webType+"Content-Encoding: gzip\r\n", emptyFrame), want: webRefused},
	{name: "body of gzip cut", send: webPost(wire.Unary, webType+"Content-Encoding: gzip\r\n", gzipped([]byte(emptyFrame))[:14]), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "body as a gzip bomb", send: webPost(wire.Unary, webType+"Content-Encoding: gzip\r\n", gzipped([]byte(prefixed(0, 2<<20, strings.Repeat("\x00", 2<<20))))), want: "200 ResourceExhausted REQUEST_TOO_LARGE, kept | 200 ResourceExhausted REQUEST_TOO_LARGE, closed"},
	{name: "unknown coding of the body", send: webPost(wire.Unary, webType+"Content-Encoding: br\r\n", emptyFrame), want: "200 Unimplemented UNSUPPORTED_ENCODING, kept"},

	{name: "time-out without a unit", send: webPost(wire.Unary, webType+"Grpc-Timeout: 5\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "time-out without digits", send: webPost(wire.Unary, webType+"Grpc-Timeout: S\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "time-out of nothing", send: webPost(wire.Unary, webType+"Grpc-Timeout:\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "time-out of nine digits", send: webPost(wire.Unary, webType+"Grpc-Timeout: 123456789S\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "time-out below zero", send: webPost(wire.Unary, webType+"Grpc-Timeout: -1S\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "time-out with a fraction", send: webPost(wire.Unary, webType+"Grpc-Timeout: 1.5S\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "time-out in lower case", send: webPost(wire.Unary, webType+"Grpc-Timeout: 5s\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "time-out that has passed", send: webPost(wire.Unary, webType+"Grpc-Timeout: 0m\r\n", emptyFrame), want: "200 DeadlineExceeded DEADLINE_EXCEEDED, kept"},
	{name: "bytes that aren't base64", send: webPost(wire.Unary, webType+"X-B-Bin: !!!\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "bytes of one character", send: webPost(wire.Unary, webType+"X-B-Bin: AAEC, A\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "bytes with padding inside", send: webPost(wire.Unary, webType+"X-B-Bin: AA==AA==\r\n", emptyFrame), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "metadata over the limit", send: webPost(wire.Unary, webType+"X-A: "+strings.Repeat("a", 70<<10)+"\r\n", emptyFrame), want: "200 ResourceExhausted METADATA_TOO_LARGE, kept"},
	{name: "metadata over the limit by number", send: webPost(wire.Unary, webType+strings.Repeat("X-A: b\r\n", 2000), emptyFrame), want: "200 ResourceExhausted METADATA_TOO_LARGE, kept"},
	{name: "a method that tells of the inside", send: webPost("/grpc.channelz.v1.Channelz/GetServers", webType, emptyFrame), want: "200 Unimplemented NO_ROUTE, kept"},

	{name: "text that isn't base64", send: webPost(wire.Bidi, webTextType, "AAAA!AAA"), want: webRefused},
	{name: "text of the other alphabet", send: webPost(wire.Bidi, webTextType, "AAAAAAP-_w=="), want: webRefused},
	{name: "text cut in a quantum", send: webPost(wire.Bidi, webTextType, "AAAAAAA"), want: "200 InvalidArgument BAD_REQUEST, kept"},
	{name: "text that begins with padding", send: webPost(wire.Bidi, webTextType, "=AAA"), want: webRefused},
	{name: "text with padding in a quantum", send: webPost(wire.Bidi, webTextType, "AA=A"), want: webRefused},
	{name: "text with a reserved flag", send: webPost(wire.Bidi, webTextType, base64.StdEncoding.EncodeToString([]byte(prefixed(4, 0, "x")))), want: webRefused},
	{name: "text over the limit", send: webPost(wire.Bidi, webTextType, base64.StdEncoding.EncodeToString([]byte(prefixed(0, 1<<31, "x")))), want: "200 ResourceExhausted REQUEST_TOO_LARGE, kept | 200 ResourceExhausted REQUEST_TOO_LARGE, closed"},
	{name: "binary as text", send: webPost(wire.Bidi, webTextType, emptyFrame), want: webRefused},

	{name: "chunk size of no hex", send: webChunks(bigChunk + "zz\r\n"), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "chunk size below zero", send: webChunks(bigChunk + "-1\r\n\r\n"), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "chunk size beyond 64 bits", send: webChunks(bigChunk + "fffffffffffffffff\r\n"), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "chunk size with a prefix", send: webChunks(bigChunk + "0x5\r\n" + emptyFrame + "\r\n0\r\n\r\n"), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "chunk size of nothing", send: webChunks(bigChunk + "\r\n\r\n"), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "chunk longer than its size", send: webChunks(bigChunk + "1\r\nabc\r\n0\r\n\r\n"), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "chunk extension of 400 KiB", send: webChunks(bigChunk + "5;" + strings.Repeat("a", 400<<10) + "\r\n" + emptyFrame + "\r\n0\r\n\r\n"), want: "200 InvalidArgument BAD_REQUEST, closed"},
	{name: "chunk cut by the connection", send: webChunks(bigChunk + "ff\r\nabc"), fin: true, want: "200 Canceled CLIENT_GONE, closed | closed"},
	{name: "chunks without an end", send: webChunks(bigChunk), fin: true, want: "200 Canceled CLIENT_GONE, closed | closed"},

	{name: "no content type", send: webPost(wire.Unary, "", emptyFrame), want: "415, closed"},
	{name: "another content type", send: webPost(wire.Unary, "Content-Type: text/plain\r\n", emptyFrame), want: "415, closed"},
	{name: "a content type that only begins so", send: webPost(wire.Unary, "Content-Type: application/grpc-webby\r\n", emptyFrame), want: "415, closed"},
	{name: "two content types", send: webPost(wire.Unary, "Content-Type: text/plain\r\n"+webType, emptyFrame), want: "415, closed"},
	{name: "no method in the path", send: webPost("/nothing", webType, emptyFrame), want: "404, closed"},
	{name: "an escape in the path", send: webPost("/culvert.e2e.v1.Probe/%55nary", webType, emptyFrame), want: "404, closed"},
	{name: "an escaped slash in the path", send: webPost("/culvert.e2e.v1.Probe%2FUnary", webType, emptyFrame), want: "404, closed"},
	{name: "a dot segment in the path", send: webPost("/x/../culvert.e2e.v1.Probe/Unary", webType, emptyFrame), want: "404, closed"},
	{name: "an empty segment in the path", send: webPost("//culvert.e2e.v1.Probe/Unary", webType, emptyFrame), want: "404, closed"},
	{name: "a parameter in the path", send: webPost("/culvert.e2e.v1.Probe;x/Unary", webType, emptyFrame), want: "404, closed"},
	{name: "page of somebody else", send: webPost(wire.Unary, webType+"Origin: https://evil.example\r\n", emptyFrame), want: "403, closed"},
}
