package e2e

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// The requests that the scripts are made of.
var (
	oracleOne    = wire.Frame(wire.Request(0, 16))
	oracleThree  = slices.Concat(oracleOne, wire.Frame(wire.Request(1, 300)), wire.Frame(wire.Request(2, 0)))
	oracleLarge  = wire.Frame(wire.Request(0, 1<<20))
	oracleFields = []probe.Field{
		{Name: "x-head", Value: "1"},
		{Name: "x-head", Value: "2"},
		{Name: "x-head-bin", Bytes: []byte{0, 1, 2}},
		{Name: "x-head-bin", Bytes: []byte{0xff}},
	}
	oracleTrailers = []probe.Field{{Name: "x-tail", Value: "3"}, {Name: "x-tail", Value: "4"}, {Name: "x-tail-bin", Bytes: []byte{0xfb, 0xff}}}
)

// oracleCalls are the calls that are made over gRPC-Web on HTTP/1.1 and HTTP/2,
// over gRPC-Web-text, and over grpc-websockets.
var oracleCalls = []oracleScript{
	{name: "unary", body: oracleOne},
	{name: "unary of an empty message", body: wire.Frame(nil)},
	{name: "unary of 1 MiB", probe: probe.Script{ReplyBytes: 1 << 20}, body: oracleLarge},
	{name: "metadata", probe: probe.Script{Header: oracleFields, Trailer: oracleTrailers}, body: oracleOne, header: http.Header{
		"X-A": {"1", "2"}, "X-B-Bin": {"AAEC", "/w=="}, "X-C": {"a, b"}, "Authorization": {"Bearer t"}, "X-User-Agent": {"grpc-web-javascript/0.1"},
	}},
	{name: "a trailer of a header's name", probe: probe.Script{Header: oracleFields[:1], Trailer: []probe.Field{{Name: "x-head", Value: "late"}}}, body: oracleOne},
	{name: "server stream", path: wire.ServerStream, probe: probe.Script{Replies: 3, ReplyBytes: 100, Header: oracleFields, Trailer: oracleTrailers}, body: oracleOne},
	{name: "server stream of nothing", path: wire.ServerStream, body: oracleOne},
	{name: "server stream of nothing, metadata", path: wire.ServerStream, probe: probe.Script{Header: oracleFields, Trailer: oracleTrailers}, body: oracleOne},
	{name: "server stream of an early header", path: wire.ServerStream, probe: probe.Script{Header: oracleFields, HeaderEarly: true, Trailer: oracleTrailers}, body: oracleOne},
	{name: "server stream of many", path: wire.ServerStream, probe: probe.Script{Replies: 200, ReplyBytes: 10}, body: oracleOne},
	{name: "client stream", path: wire.ClientStream, body: oracleThree},
	{name: "client stream of nothing", path: wire.ClientStream},
	{name: "bidi", path: wire.Bidi, probe: probe.Script{Echo: true}, body: oracleThree},
	{name: "bidi of nothing", path: wire.Bidi},
	{name: "bidi, replies first", path: wire.Bidi, probe: probe.Script{RepliesFirst: true, Replies: 2, ReplyBytes: 10}, body: oracleThree},
	{name: "bidi, ended early", path: wire.Bidi, probe: probe.Script{Read: probe.ReadOne, Code: 9, Message: "enough"}, body: oracleThree},
	{name: "error", probe: probe.Script{Code: 5, Message: "nothing here"}, body: oracleOne},
	{name: "error without a message", probe: probe.Script{Code: 5}, body: oracleOne},
	{name: "error with details", probe: probe.Script{Code: 9, Message: "not now", Details: []string{"FIRST", "SECOND"}}, body: oracleOne},
	{name: "error with metadata", probe: probe.Script{Code: 9, Message: "not now", Header: oracleFields, Trailer: oracleTrailers}, body: oracleOne},
	{name: "error of a message with odd characters", probe: probe.Script{Code: 2, Message: "no café: 100%\r\n\x01☃ "}, body: oracleOne},
	{name: "error of an unknown code", probe: probe.Script{Code: 99, Message: "beyond"}, body: oracleOne},
	{name: "error after replies", path: wire.ServerStream, probe: probe.Script{Replies: 2, ReplyBytes: 10, Code: 10, Message: "lost", Details: []string{"LATE"}, Trailer: oracleTrailers}, body: oracleOne},
	{name: "error after an early header", path: wire.ServerStream, probe: probe.Script{HeaderEarly: true, Header: oracleFields, Code: 10, Message: "lost"}, body: oracleOne},
	{name: "every code", path: wire.ServerStream, probe: probe.Script{Code: 16, Message: "who?"}, body: oracleOne},
	{name: "unknown method", path: "/culvert.e2e.v1.Probe/Missing", body: oracleOne},
	{name: "unknown service", path: "/culvert.e2e.v1.Nothing/Unary", body: oracleOne},
	{name: "deadline", probe: probe.Script{}, header: http.Header{"Grpc-Timeout": {"5M"}}, body: oracleOne},
	{name: "deadline that passes", probe: probe.Script{Hang: true}, header: http.Header{"Grpc-Timeout": {"3S"}}, body: oracleOne},
	{name: "gzip", header: http.Header{"Grpc-Encoding": {"gzip"}}, body: []byte(prefixed(1, uint32(len(oraclePacked)), oraclePacked))},
	{name: "two requests of a unary call", body: oracleThree},
	{name: "no request of a unary call"},
	{name: "request cut in its prefix", path: wire.Bidi, body: oracleThree[:3]},
	{name: "request cut in its message", path: wire.Bidi, body: oracleOne[:9]},
	{name: "reserved flag", path: wire.Bidi, body: []byte(prefixed(2, 0, ""))},
	{name: "trailers of the client", path: wire.Bidi, body: []byte(prefixed(0x80, 0, ""))},
	{name: "compressed without a coding", path: wire.Bidi, body: []byte(prefixed(1, uint32(len(oraclePacked)), oraclePacked))},
	{name: "length over the limit", path: wire.Bidi, body: []byte(prefixed(0, 17<<20, "a"))},
	{name: "unknown coding", path: wire.Bidi, header: http.Header{"Grpc-Encoding": {"br"}}, body: []byte(prefixed(1, 1, "a"))},
	{name: "time-out of the wrong unit", header: http.Header{"Grpc-Timeout": {"5s"}}, body: oracleOne},
	{name: "time-out of nine digits", header: http.Header{"Grpc-Timeout": {"123456789S"}}, body: oracleOne},
	{name: "bytes joined by a comma", header: http.Header{"X-B-Bin": {"AAEC, /w=="}}, body: oracleOne},
	{name: "bytes that aren't base64", header: http.Header{"X-B-Bin": {"!!!"}}, body: oracleOne},
	{name: "names that gRPC keeps to itself", header: http.Header{"Grpc-Status": {"7"}, "Grpc-Foo": {"x"}, "Te": {"trailers"}, "Grpc-Accept-Encoding": {"br"}}, body: oracleOne},
	{name: "names that only a proxy may say", header: http.Header{"X-Forwarded-For": {"10.0.0.1"}, "X-Real-Ip": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.1"}, "X-Forwarded-Host": {"inside"}}, body: oracleOne},
	{name: "names of the page's origin in the answer", probe: probe.Script{Header: []probe.Field{
		{Name: "access-control-allow-origin", Value: "https://evil.example"},
		{Name: "location", Value: "https://evil.example/"},
		{Name: "clear-site-data", Value: "*"},
		{Name: "set-cookie", Value: "a=b"},
		{Name: "x-head", Value: "1"},
	}}, body: oracleOne},
}

var oraclePacked = gzipped(wire.Request(0, 16))

const oracleOrigin = "https://app.example.com"

// oracleHTTP are requests that there are over HTTP alone.
var oracleHTTP = []oracleScript{
	{name: "content type without a suffix", header: http.Header{"Content-Type": {"application/grpc-web"}}, body: oracleOne},
	{name: "content type with a charset", header: http.Header{"Content-Type": {"application/grpc-web+proto; charset=utf-8"}}, body: oracleOne},
	{name: "text without a suffix", header: http.Header{"Content-Type": {"application/grpc-web-text"}}, body: asText(oracleOne)},
	{name: "text asked for by accept", header: http.Header{"Accept": {"application/grpc-web-text"}}, body: oracleOne},
	{name: "text padded in the middle", path: wire.Bidi, probe: probe.Script{Echo: true}, header: http.Header{"Content-Type": {"application/grpc-web-text+proto"}}, body: slices.Concat(asText(oracleOne[:4]), asText(oracleOne[4:]))},
	{name: "text with line ends", path: wire.Bidi, probe: probe.Script{Echo: true}, header: http.Header{"Content-Type": {"application/grpc-web-text+proto"}}, body: slices.Concat(asText(oracleOne)[:8], []byte("\r\n"), asText(oracleOne)[8:])},
	{name: "text that isn't base64", path: wire.Bidi, header: http.Header{"Content-Type": {"application/grpc-web-text+proto"}}, body: []byte("AAAA!AAA")},
	{name: "text that is cut", path: wire.Bidi, header: http.Header{"Content-Type": {"application/grpc-web-text+proto"}}, body: asText(oracleOne)[:7]},
	{name: "page", header: http.Header{"Origin": {oracleOrigin}}, probe: probe.Script{Header: oracleFields, Trailer: oracleTrailers}, body: oracleOne},
	{name: "page, error", header: http.Header{"Origin": {oracleOrigin}}, probe: probe.Script{Code: 7, Message: "no"}, body: oracleOne},
	{name: "preflight", method: http.MethodOptions, header: preflightFor("content-type,x-grpc-web,x-user-agent,grpc-timeout,authorization,x-a")},
	{name: "preflight without x-grpc-web", method: http.MethodOptions, header: preflightFor("content-type")},
	{name: "preflight of PUT", method: http.MethodOptions, header: http.Header{"Origin": {oracleOrigin}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"x-grpc-web"}, "Content-Type": nil}},
	{name: "OPTIONS of no page", method: http.MethodOptions, header: http.Header{"Content-Type": nil}},
	{name: "GET", method: http.MethodGet, header: http.Header{"Content-Type": nil}},
	{name: "another content type", header: http.Header{"Content-Type": {"text/plain"}}, body: oracleOne},
	{name: "no method in the path", path: "/nothing", body: oracleOne},
	{name: "an escape in the path", path: "/culvert.e2e.v1.Probe/%55nary", body: oracleOne},
	{name: "cookie", header: http.Header{"Cookie": {"a=b"}}, body: oracleOne},
}

// oracleSockets are conversations that there are over a WebSocket alone.
var oracleSockets = []oracleScript{
	{name: "bidi, one after the other", path: wire.Bidi, probe: probe.Script{Echo: true}, paced: true, messages: socketData(wire.Frame(wire.Request(0, 16)), wire.Frame(wire.Request(1, 16)), wire.Frame(wire.Request(2, 16)))},
	{name: "metadata joined with commas", head: "x-a: 1, 2\r\nx-b-bin: AAEC, /w==\r\n", messages: socketData(oracleOne)},
	{name: "metadata in canonical case", head: "X-A: 1\r\nX-B-Bin: AAEC\r\n", messages: socketData(oracleOne)},
	{name: "header of the upgrade", header: http.Header{"Authorization": {"Bearer t"}, "X-A": {"1"}, "User-Agent": {"oracle"}}, messages: socketData(oracleOne)},
	{name: "cookie of the upgrade", header: http.Header{"Cookie": {"a=b"}}, messages: socketData(oracleOne)},
	{name: "frames in pieces", path: wire.Bidi, probe: probe.Script{Echo: true}, messages: socketData(oracleThree[:2], oracleThree[2:30], oracleThree[30:])},
	{name: "frames in one message", path: wire.Bidi, probe: probe.Script{Echo: true}, messages: socketData(oracleThree)},
	{name: "no half-close, ended by the backend", path: wire.Bidi, probe: probe.Script{Read: probe.ReadOne, Replies: 1}, messages: socketData(oracleOne)[:1]},
	{name: "closed by the client", path: wire.ServerStream, probe: probe.Script{Replies: 2, Hang: true}, messages: socketData(oracleOne), stopsAt: 2},
	{name: "an unknown marker", path: wire.Bidi, messages: []socketMessage{{b: append([]byte{2}, oracleOne...)}}},
	{name: "a message without a marker", path: wire.Bidi, messages: []socketMessage{{b: nil}}},
	{name: "a half-close with more behind it", path: wire.Bidi, messages: []socketMessage{{b: []byte{1, 0}}}},
	{name: "text as the first message", raw: true, messages: []socketMessage{{text: true, b: []byte("content-type: application/grpc-web+proto\r\n")}}},
	{name: "text as a request", path: wire.Bidi, messages: []socketMessage{{text: true, b: []byte("\x00")}}},
	{name: "metadata without a colon", raw: true, messages: []socketMessage{{b: []byte("nothing\r\n")}}},
	{name: "subprotocol among others", header: http.Header{"Sec-WebSocket-Protocol": {"chat, grpc-websockets"}}, messages: socketData(oracleOne)},
	{name: "page", header: http.Header{"Origin": {oracleOrigin}}, messages: socketData(oracleOne)},
}

func asText(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }

func preflightFor(names string) http.Header {
	return http.Header{"Origin": {oracleOrigin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {names}, "Content-Type": nil, "X-Grpc-Web": nil}
}

// socketData is data and the half-close.
func socketData(parts ...[]byte) []socketMessage {
	var out []socketMessage
	for _, b := range parts {
		out = append(out, socketMessage{b: append([]byte{0}, b...)})
	}
	return append(out, socketMessage{b: []byte{1}})
}

// oracleScripts is all of them, on everything that both servers speak.
func oracleScripts() []oracleScript {
	var out []oracleScript
	add := func(over string, s oracleScript) {
		s.name = over + ": " + s.name
		out = append(out, s)
	}
	for _, s := range oracleCalls {
		add("grpc-web", s)
		text := s
		text.header = maps.Clone(s.header)
		if text.header == nil {
			text.header = http.Header{}
		}
		text.header["Content-Type"] = []string{"application/grpc-web-text+proto"}
		text.body = asText(s.body)
		add("grpc-web-text", text)
		socket := s
		socket.messages = socketData(s.body)
		if len(s.body) == 0 {
			socket.messages = socketData()
		}
		var head strings.Builder
		for _, name := range slices.Sorted(maps.Keys(s.header)) {
			for _, v := range s.header[name] {
				head.WriteString(strings.ToLower(name) + ": " + v + "\r\n")
			}
		}
		socket.head, socket.header = head.String(), nil
		add("grpc-websockets", socket)
		s.http2 = true
		add("grpc-web HTTP/2", s)
	}
	for _, s := range oracleHTTP {
		add("grpc-web", s)
	}
	for _, s := range oracleSockets {
		add("grpc-websockets", s)
	}
	return out
}
