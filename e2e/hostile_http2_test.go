package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// h2 is one HTTP/2 frame. RFC 9113 §4.1.
func h2(kind http2.FrameType, flags http2.Flags, stream uint32, payload string) string {
	return h2Sized(len(payload), kind, flags, stream, payload)
}

// h2Sized is one that says it were of another size.
func h2Sized(size int, kind http2.FrameType, flags http2.Flags, stream uint32, payload string) string {
	b := []byte{byte(size >> 16), byte(size >> 8), byte(size), byte(kind), byte(flags)}
	return string(binary.BigEndian.AppendUint32(b, stream)) + payload
}

// fields is a header block of names and values.
func fields(list ...string) string {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i < len(list); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]}) // to memory
	}
	return block.String()
}

// headers is a frame with the whole block of a request to method with more fields.
func headers(stream uint32, end bool, method string, more ...string) string {
	list := append([]string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "127.0.0.1", "content-type", "application/grpc", "te", "trailers"}, more...)
	return request(stream, end, list...)
}

// request is a HEADERS frame with these fields.
func request(stream uint32, end bool, list ...string) string {
	flags := http2.FlagHeadersEndHeaders
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	return h2(http2.FrameHeaders, flags, stream, fields(list...))
}

func data(stream uint32, end bool, payload string) string {
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagDataEndStream
	}
	return h2(http2.FrameData, flags, stream, payload)
}

func word(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }

func setting(id http2.SettingID, v uint32) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(id))) + word(v)
}

// begun is a call that waits for requests, as stream 1.
var begun = headers(1, false, wire.Bidi)

// deaf is one whose backend never reads.
var deaf = headers(1, false, wire.Bidi, probe.ScriptKey, probe.Script{Read: probe.ReadNone, Hang: true}.String())

// hostilePrefaces are connections that begin otherwise than RFC 9113 §3.4 wants.
// A GOAWAY may be left out there.
var hostilePrefaces = []hostileCase{
	{name: "preface with another end", send: "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", want: "closed | GOAWAY PROTOCOL_ERROR, closed | 400, closed | 505, closed"},
	{name: "preface cut", send: http2.ClientPreface[:20], fin: true, want: "closed | GOAWAY PROTOCOL_ERROR, closed"},
	{name: "preface and a ping", send: http2.ClientPreface + h2(http2.FramePing, 0, 0, "12345678"), want: "GOAWAY PROTOCOL_ERROR, closed"},
	{name: "preface and a call", send: http2.ClientPreface + begun, want: "GOAWAY PROTOCOL_ERROR, closed"},
	{name: "preface and HTTP 1.1", send: http2.ClientPreface + "GET / HTTP/1.1\r\n" + hostileHost + "\r\n", want: "GOAWAY FRAME_SIZE_ERROR, closed | GOAWAY PROTOCOL_ERROR, closed | closed"},
	{name: "settings on a stream", send: http2.ClientPreface + h2(http2.FrameSettings, 0, 1, ""), want: "GOAWAY PROTOCOL_ERROR, closed"},
}

// The ends of hostile HTTP/2.
const (
	protocolError  = "GOAWAY PROTOCOL_ERROR, closed"
	frameSize      = "GOAWAY FRAME_SIZE_ERROR, closed"
	compression    = "GOAWAY COMPRESSION_ERROR, closed"
	flowControl    = "GOAWAY FLOW_CONTROL_ERROR, closed"
	streamProtocol = "1: RST PROTOCOL_ERROR, alive"
	malformed      = streamProtocol // RFC 9113 §8.1.1
	// RFC 9113 §5.1, §5.4.2: what comes on a closed stream may be taken for an
	// error of the connection.
	streamClosed = "1: RST STREAM_CLOSED, alive | GOAWAY STREAM_CLOSED, closed"
)

// hostileHTTP2 comes after the client's preface and SETTINGS: RFC 9113, on the
// public port and inside tunnels.
var hostileHTTP2 = []hostileCase{
	{name: "SETTINGS on a stream", send: h2(http2.FrameSettings, 0, 1, ""), want: protocolError},
	{name: "SETTINGS of 5 bytes", send: h2(http2.FrameSettings, 0, 0, "\x00\x03\x00\x00\x00"), want: frameSize},
	{name: "acknowledgement with settings", send: h2(http2.FrameSettings, http2.FlagSettingsAck, 0, setting(http2.SettingInitialWindowSize, 1)), want: frameSize},
	{name: "acknowledgement of nothing", send: strings.Repeat(h2(http2.FrameSettings, http2.FlagSettingsAck, 0, ""), 8), want: "alive | " + protocolError},
	{name: "push enabled with 2", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingEnablePush, 2)), want: protocolError},
	{name: "window of 2^31", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1<<31)), want: flowControl},
	{name: "frames of one byte", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingMaxFrameSize, 1)), want: protocolError},
	{name: "frames of 2^24", send: h2(http2.FrameSettings, 0, 0, setting(http2.SettingMaxFrameSize, 1<<24)), want: protocolError},
	{name: "frame of 16 MiB", send: h2Sized(1<<24-1, http2.FrameData, 0, 1, "a"), want: frameSize},
	{name: "HEADERS of 16 MiB", send: h2Sized(1<<24-1, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "a"), want: frameSize},
	{name: "DATA on stream 0", send: data(0, false, "a"), want: protocolError},
	{name: "HEADERS on stream 0", send: headers(0, false, wire.Bidi), want: protocolError},
	{name: "CONTINUATION on stream 0", send: h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 0, ""), want: protocolError},
	{name: "RST_STREAM on stream 0", send: h2(http2.FrameRSTStream, 0, 0, word(8)), want: protocolError},
	{name: "PRIORITY on stream 0", send: h2(http2.FramePriority, 0, 0, "\x00\x00\x00\x01\x10"), want: protocolError},
	{name: "even stream", send: headers(2, false, wire.Bidi), want: protocolError},
	{name: "stream lower than the last", send: headers(5, true, wire.Bidi) + headers(3, true, wire.Bidi), want: protocolError + " | GOAWAY STREAM_CLOSED, closed"},
	{name: "DATA on an idle stream", send: data(1, false, "a"), want: protocolError},
	{name: "RST_STREAM on an idle stream", send: h2(http2.FrameRSTStream, 0, 1, word(8)), want: protocolError},
	{name: "WINDOW_UPDATE on an idle stream", send: h2(http2.FrameWindowUpdate, 0, 1, word(1)), want: protocolError},
	{name: "RST_STREAM of 3 bytes", send: begun + h2(http2.FrameRSTStream, 0, 1, "\x00\x00\x08"), want: frameSize},
	{name: "PING of 7 bytes", send: h2(http2.FramePing, 0, 0, "1234567"), want: frameSize},
	{name: "PING on a stream", send: h2(http2.FramePing, 0, 1, "12345678"), want: protocolError},
	{name: "GOAWAY on a stream", send: h2(http2.FrameGoAway, 0, 1, word(0)+word(0)), want: protocolError},
	{name: "GOAWAY of 7 bytes", send: h2(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00"), want: frameSize},
	{name: "PUSH_PROMISE", send: begun + h2(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, word(2)+fields(":method", "GET")), want: protocolError},
	{name: "WINDOW_UPDATE of 0", send: h2(http2.FrameWindowUpdate, 0, 0, word(0)), want: protocolError},
	{name: "WINDOW_UPDATE of 0 on a stream", send: begun + h2(http2.FrameWindowUpdate, 0, 1, word(0)), want: streamProtocol + " | " + protocolError},
	{name: "WINDOW_UPDATE of 3 bytes", send: h2(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x01"), want: frameSize},
	{name: "window beyond 2^31", send: h2(http2.FrameWindowUpdate, 0, 0, word(1<<31-1)), want: flowControl},
	{name: "stream's window beyond 2^31", send: begun + h2(http2.FrameWindowUpdate, 0, 1, word(1<<31-1)), want: "1: RST FLOW_CONTROL_ERROR, alive"},
	{name: "more than the window of a stream", send: deaf + strings.Repeat(data(1, false, prefixed(0, 16<<10-5, strings.Repeat("a", 16<<10-5))), 256), want: "1: RST FLOW_CONTROL_ERROR, alive | " + flowControl},
	{name: "DATA with padding beyond it", send: begun + h2(http2.FrameData, http2.FlagDataPadded, 1, "\x05abcd"), want: protocolError},
	{name: "HEADERS with padding beyond it", send: h2(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, "\xffabcd"), want: streamProtocol + " | " + protocolError},
	{name: "PRIORITY of 4 bytes", send: begun + h2(http2.FramePriority, 0, 1, word(0)), want: "1: RST FRAME_SIZE_ERROR, alive | " + frameSize},

	{name: "CONTINUATION without HEADERS", send: h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, fields("a", "b")), want: protocolError},
	{name: "DATA within a header block", send: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")) + data(1, false, "a"), want: protocolError},
	{name: "PING within a header block", send: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")) + h2(http2.FramePing, 0, 0, "12345678"), want: protocolError},
	{name: "CONTINUATION of another stream", send: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")) + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, ""), want: protocolError},
	{name: "CONTINUATION after the end", send: begun + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, fields("a", "b")), want: protocolError},
	{name: "CONTINUATION without end", send: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")) + strings.Repeat(h2(http2.FrameContinuation, 0, 1, fields("x-a", strings.Repeat("a", 16000))), 200), want: protocolError + " | GOAWAY ENHANCE_YOUR_CALM, closed | " + compression},
	{name: "100,000 empty CONTINUATIONs", send: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")) + strings.Repeat(h2(http2.FrameContinuation, 0, 1, ""), 100_000) + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, ""), want: malformed + " | " + protocolError + " | GOAWAY ENHANCE_YOUR_CALM, closed"},
	{name: "HPACK: index 0", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x80"), want: compression},
	{name: "HPACK: index beyond the table", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\xff\x80\x80\x04"), want: compression},
	{name: "HPACK: integer beyond 64 bits", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), want: compression},
	{name: "HPACK: string cut", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x40\x05ab"), want: compression},
	{name: "HPACK: Huffman with EOS", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x00\x84\xff\xff\xff\xff\x00"), want: compression},
	{name: "HPACK: table larger than allowed", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x3f\xff\xff\xff\x7f"), want: compression},
	{name: "HPACK: garbage", send: h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, strings.Repeat("\xde\xad\xbe\xef", 32)), want: compression},

	{name: "upper-case name", send: request(1, true, ":method", "POST", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1", "X-A", "b"), want: malformed},
	{name: "connection header", send: headers(1, true, wire.Bidi, "connection", "keep-alive"), want: malformed},
	{name: "transfer-encoding", send: headers(1, true, wire.Bidi, "transfer-encoding", "chunked"), want: malformed},
	{name: "te that isn't trailers", send: request(1, true, ":method", "POST", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1", "te", "gzip"), want: malformed},
	{name: "pseudo-header behind a header", send: request(1, true, ":method", "POST", ":scheme", "http", "x-a", "b", ":path", wire.Bidi), want: malformed},
	{name: "unknown pseudo-header", send: headers(1, true, wire.Bidi, ":unknown", "b"), want: malformed},
	{name: "status in a request", send: request(1, true, ":status", "200", ":method", "POST", ":scheme", "http", ":path", wire.Bidi), want: malformed},
	{name: "no method", send: request(1, true, ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1"), want: malformed},
	{name: "two methods", send: request(1, true, ":method", "POST", ":method", "POST", ":scheme", "http", ":path", wire.Bidi), want: malformed},
	{name: "no scheme", send: request(1, true, ":method", "POST", ":path", wire.Bidi, ":authority", "127.0.0.1"), want: malformed},
	{name: "no path", send: request(1, true, ":method", "POST", ":scheme", "http", ":authority", "127.0.0.1"), want: malformed},
	{name: "two paths", send: request(1, true, ":method", "POST", ":scheme", "http", ":path", wire.Bidi, ":path", wire.Unary), want: malformed},
	{name: "empty path", send: request(1, true, ":method", "POST", ":scheme", "http", ":path", "", ":authority", "127.0.0.1"), want: malformed},
	{name: "path without a slash", send: request(1, true, ":method", "POST", ":scheme", "http", ":path", "a.B/C", ":authority", "127.0.0.1"), want: malformed},
	{name: "name with a blank", send: headers(1, true, wire.Bidi, "x a", "b"), want: malformed},
	{name: "empty name", send: headers(1, true, wire.Bidi, "", "b"), want: malformed},
	{name: "value with CR and LF", send: headers(1, true, wire.Bidi, "x-a", "b\r\nx-b: c"), want: malformed},
	{name: "value with NUL", send: headers(1, true, wire.Bidi, "x-a", "b\x00c"), want: malformed},
	{name: "content-length and no content", send: headers(1, true, wire.Bidi, "content-length", "5"), want: malformed},
	{name: "more than content-length", send: headers(1, false, wire.Bidi, "content-length", "3") + data(1, true, emptyFrame), want: malformed},
	{name: "less than content-length", send: headers(1, false, wire.Bidi, "content-length", "9") + data(1, true, emptyFrame), want: malformed},
	{name: "two content-lengths", send: headers(1, false, wire.Bidi, "content-length", "5", "content-length", "6") + data(1, true, emptyFrame), want: malformed},
	{name: "a content-length that comes twice", send: headers(1, false, wire.Bidi, "content-length", "5", "content-length", "5") + data(1, true, emptyFrame), want: "1: 400, alive"},
	{name: "trailers without END_STREAM", send: begun + h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, fields("x-a", "b")), want: malformed},
	{name: "pseudo-header in trailers", send: begun + request(1, true, ":path", "/"), want: malformed},
	{name: "DATA behind the end", send: headers(1, true, wire.Bidi, probe.ScriptKey, probe.Script{Hang: true}.String()) + data(1, false, "a"), want: streamClosed},
	{name: "HEADERS after the end of the stream", send: headers(1, true, wire.Bidi, probe.ScriptKey, probe.Script{Hang: true}.String()) + request(1, true, "x-a", "b"), want: streamClosed},
	{name: "DATA behind a reset", send: begun + h2(http2.FrameRSTStream, 0, 1, word(8)) + data(1, false, "a"), want: "alive | " + streamClosed},

	{name: "header of 100 KiB", send: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1", "content-type", "application/grpc", "te", "trailers")) + strings.Repeat(h2(http2.FrameContinuation, 0, 1, fields("x-a", strings.Repeat("a", 10<<10))), 10) + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, ""), want: "1: 200 ResourceExhausted METADATA_TOO_LARGE, alive"},
	{name: "header of 300 KiB", send: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1", "content-type", "application/grpc", "te", "trailers")) + strings.Repeat(h2(http2.FrameContinuation, 0, 1, fields("x-a", strings.Repeat("a", 10<<10))), 30) + h2(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, ""), want: "1: 431, alive | " + protocolError},
	{name: "gRPC: a byte of a prefix", send: begun + data(1, true, "\x00"), want: "1: 200 InvalidArgument BAD_REQUEST, alive"},
	{name: "gRPC: a message cut", send: begun + data(1, true, prefixed(0, 8, "world")), want: "1: 200 InvalidArgument BAD_REQUEST, alive"},
	{name: "gRPC: a reserved flag", send: begun + data(1, false, prefixed(2, 0, "")), want: "1: 200 InvalidArgument BAD_REQUEST, alive"},
	{name: "gRPC: trailers of the client", send: begun + data(1, false, prefixed(0x80, 0, "")), want: "1: 200 InvalidArgument BAD_REQUEST, alive"},
	{name: "gRPC: a length over the limit", send: begun + data(1, false, prefixed(0, 1<<20+1, "a")), want: "1: 200 ResourceExhausted REQUEST_TOO_LARGE, alive"},
	{name: "gRPC: compressed without a coding", send: begun + data(1, false, prefixed(1, 1, "a")), want: "1: 200 Internal BAD_REQUEST, alive"},
	{name: "gRPC: an unknown coding", send: headers(1, false, wire.Bidi, "grpc-encoding", "br") + data(1, false, prefixed(1, 1, "a")), want: "1: 200 Unimplemented UNSUPPORTED_ENCODING, alive"},
	{name: "gRPC: a gzip bomb", send: headers(1, false, wire.Bidi, "grpc-encoding", "gzip") + inFrames(1, prefixed(1, uint32(len(gzipBomb)), gzipBomb)), want: "1: 200 ResourceExhausted REQUEST_TOO_LARGE, alive"},
	{name: "gRPC: a bad time-out", send: headers(1, true, wire.Bidi, "grpc-timeout", "soon"), want: "1: 200 InvalidArgument BAD_REQUEST, alive"},
	{name: "gRPC: bytes that aren't base64", send: headers(1, true, wire.Bidi, "x-b-bin", "!"), want: "1: 200 InvalidArgument BAD_REQUEST, alive"},
	{name: "gRPC: GET", send: request(1, true, ":method", "GET", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1"), want: "1: 426, alive"},
	{name: "gRPC: PUT", send: request(1, true, ":method", "PUT", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1"), want: "1: 405, alive"},
	{name: "gRPC: CONNECT", send: request(1, false, ":method", "CONNECT", ":authority", "127.0.0.1:22"), want: "1: 405, alive"},
	{name: "gRPC: extended CONNECT", send: request(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1"), want: malformed},
	{name: "gRPC: another content type", send: request(1, true, ":method", "POST", ":scheme", "http", ":path", wire.Bidi, ":authority", "127.0.0.1", "content-type", "application/grpcs"), want: "1: 415, alive"},
	{name: "gRPC: no method in the path", send: headers(1, true, "/nothing"), want: "1: 404, alive"},
	{name: "gRPC: an escape in the path", send: headers(1, true, "/culvert.e2e.v1.Probe/%42idi"), want: "1: 404, alive"},
}

// hostileHosts are what is no host, on the public port: inside a tunnel what a
// call says of it counts for nothing. RFC 9113 §8.3.1.
var hostileHosts = []hostileCase{
	{name: "two ports", send: requestTo("127.0.0.1:80:80"), want: "1: 400, alive"},
	{name: "two dots at its end", send: requestTo("localhost.."), want: "1: 400, alive"},
	{name: "a list", send: requestTo("localhost,localhost"), want: "1: 400, alive"},
	{name: "a user", send: requestTo("root@localhost"), want: malformed},
	{name: "in Host alone", send: request(1, true, ":method", "POST", ":scheme", "http", ":path", wire.Bidi, "host", "localhost..", "content-type", "application/grpc", "te", "trailers"), want: "1: 400, alive"},
	{name: "somebody else's", send: requestTo("evil.example"), want: "1: 403, alive"},
}

// requestTo is a call with this authority.
func requestTo(authority string) string {
	return request(1, true, ":method", "POST", ":scheme", "http", ":path", wire.Bidi, ":authority", authority, "content-type", "application/grpc", "te", "trailers")
}

// inFrames is b as DATA in frames of a size that every server takes.
func inFrames(stream uint32, b string) string {
	var out strings.Builder
	for chunk := range slices.Chunk([]byte(b), 16<<10) {
		out.WriteString(data(stream, false, string(chunk)))
	}
	return out.String()
}

// areYouThere is what a ping holds that comes behind the hostile bytes.
const areYouThere = "hostile?"

// An h2End is what a stream has come to.
type h2End struct {
	fields http.Header
	ended  bool
	reset  string // the error's name
}

func (e *h2End) String() string {
	text := strings.Join(e.fields[":status"], " ")
	if text != "" {
		if text == "405" && e.fields["allow"] == nil {
			text += " without allow"
		}
		if s, err := wire.StatusOf(e.fields); err == nil {
			text += " " + statusText(s)
		}
	}
	if e.reset != "" && !(e.ended && e.reset == "NO_ERROR") {
		text += " RST " + e.reset
	} else if !e.ended {
		text += " open"
	}
	return strings.TrimSpace(text)
}

// lookHTTP2 writes down the streams' ends, and whether the connection lives,
// until that is what is wanted or the connection is closed.
func lookHTTP2(conn net.Conn, enough func(string) bool) (string, error) {
	framer := http2.NewFramer(io.Discard, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	streams := map[uint32]*h2End{}
	goaway, alive := "", ""
	text := func(end string) string {
		var all []string
		for _, id := range slices.Sorted(maps.Keys(streams)) {
			all = append(all, fmt.Sprintf("%d: %v", id, streams[id]))
		}
		if goaway != "" {
			all = []string{"GOAWAY " + goaway} // what else there was depends on who was faster
		}
		if end != "" {
			all = append(all, end)
		}
		return strings.Join(all, ", ")
	}
	for {
		f, err := framer.ReadFrame()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || err != nil && strings.Contains(err.Error(), "HTTP/1.1 header") {
			return text("closed"), nil // or answered in HTTP/1.1, and closed
		}
		if err != nil {
			return text(alive), err
		}
		id := f.Header().StreamID
		if id != 0 && streams[id] == nil {
			streams[id] = &h2End{fields: http.Header{}}
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			goaway = f.ErrCode.String()
		case *http2.PingFrame:
			if f.IsAck() && f.Data == [8]byte([]byte(areYouThere)) {
				alive = "alive"
			}
		case *http2.RSTStreamFrame:
			if streams[id].reset == "" { // more may come for what was under way
				streams[id].reset = f.ErrCode.String()
			}
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				streams[id].fields[field.Name] = append(streams[id].fields[field.Name], field.Value)
			}
			streams[id].ended = f.StreamEnded()
		case *http2.DataFrame:
			streams[id].ended = f.StreamEnded()
		}
		if alive != "" && enough(text(alive)) {
			return text(alive), nil
		}
	}
}
