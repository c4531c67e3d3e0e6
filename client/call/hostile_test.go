package call

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/terminal"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// The beginnings of answers.
const (
	webHead     = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\n\r\n"
	textHead    = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web-text+proto\r\n\r\n"
	unaryHead   = "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\n"
	streamHead  = "HTTP/1.1 200 OK\r\nContent-Type: application/connect+proto\r\n\r\n"
	eventsHead  = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	badGateway  = "HTTP/1.1 502 Bad Gateway\r\nVia: 1.1 box\r\nContent-Type: text/html\r\n\r\n<html><title>Bad &amp; broken\x1b[31m</title>"
	escapes     = "HTTP/1.1 403 No\x1b]0;PWNED\x07\x1b[31m\r\nContent-Type: text/\u009b31mX\r\nVia: 1.1 \u009b31mY\r\nContent-Length: 0\r\n\r\n"
	redirected  = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
	notHTTP     = "SSH-2.0-OpenSSH_9.9\r\n"
	hugeMessage = "\x00\x7f\xff\xff\xff"
)

func framed(flags byte, payload string) string { return string(parts.Framed(flags, []byte(payload))) }

// socketSays is a script of a WebSocket: its messages, and then a close frame, unless code is 0.
func socketSays(subprotocol string, code int, reason string, messages ...string) script {
	return func(r *http.Request, conn net.Conn, in *bufio.Reader) {
		_, _ = io.WriteString(conn, wstest.Answer(r.Header.Get("Sec-Websocket-Key"), subprotocol)) // the client may be gone
		for _, m := range messages {
			_, _ = conn.Write(wstest.Plain(wstest.Binary, []byte(m)))
		}
		if code != 0 {
			_, _ = conn.Write(wstest.Plain(8, append([]byte{byte(code >> 8), byte(code)}, reason...)))
			_, _ = io.Copy(io.Discard, in)
		}
	}
}

// hangsUp is a script that closes the connection in good order: what it hasn't read would make
// the kernel reset it.
func hangsUp(s script) script {
	return func(r *http.Request, conn net.Conn, in *bufio.Reader) {
		s(r, conn, in)
		_ = conn.(*net.TCPConn).CloseWrite() // the client may be gone
		_, _ = io.Copy(io.Discard, in)
	}
}

// socketResets is a script that opens a tunnel, and resets its connection.
func socketResets(r *http.Request, conn net.Conn, in *bufio.Reader) {
	socketSays("h2ts", 0, "")(r, conn, in)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the close resets it
	}
}

// http2Says is a script of HTTP/2 that answers the first call with bytes, and with a status
// unless it is "", and other trailers.
func http2Says(coding, data, status string, trailers ...string) script {
	if status != "" {
		trailers = append(trailers, "grpc-status", status)
	}
	return func(_ *http.Request, conn net.Conn, in *bufio.Reader) {
		f := http2.NewFramer(conn, in)
		_, _ = in.Discard(len(http2.ClientPreface)) // the framer meets the error
		_ = f.WriteSettings()
		var block bytes.Buffer
		fields := hpack.NewEncoder(&block)
		headers := func(id uint32, end bool, all ...string) {
			block.Reset()
			for i := 0; i < len(all); i += 2 {
				_ = fields.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
			}
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
		}
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if id := frame.Header().StreamID; frame.Header().Type == http2.FrameHeaders {
				head := []string{":status", "200", "content-type", "application/grpc"}
				if coding != "" {
					head = append(head, "grpc-encoding", coding)
				}
				headers(id, false, head...)
				_ = f.WriteData(id, false, []byte(data))
				if trailers != nil {
					headers(id, true, trailers...)
				}
			}
		}
	}
}

// TestHostileServers: each lie costs an error that says what happened, and no hang.
func TestHostileServers(t *testing.T) {
	const watch = "grpc.health.v1.Health/Watch"
	for _, c := range []struct {
		name, via, method string
		says              script
		want              []string // in the error
	}{
		{"a box's page", viaGRPCWeb, check, says(badGateway), []string{"isn't this protocol's", "answered 502", "Via: 1.1 box", `"Bad & broken?[31m"`, "UNAVAILABLE"}},
		{"a box's page", viaConnect, check, says(badGateway), []string{"answered 502", "UNAVAILABLE"}},
		{"a box's page", viaConnect, watch, says(badGateway), []string{"answered 502"}},
		{"a box's page", viaWebSocket, check, says(badGateway), []string{"answered 502", "Bad & broken"}},
		{"a box's page", viaSSE, check, says(badGateway), []string{"answered 502"}},
		{"a box's page", viaMessageJSON, check, says(badGateway), []string{"answered 502"}},
		{"a box's page", viaGRPC, check, says(badGateway), []string{"doesn't speak HTTP/2", "HTTP/1"}},
		{"escapes", viaGRPCWeb, check, says(escapes), []string{"text/?31mX", "Via: 1.1 ?31mY"}},
		{"escapes", viaConnect, check, says(escapes), []string{"text/?31mX", "Via: 1.1 ?31mY"}},
		{"escapes", viaSSE, check, says(escapes), []string{"text/?31mX", "Via: 1.1 ?31mY"}},
		{"escapes", viaWebSocket, check, says(escapes), []string{"403 No?]0;PWNED??[31m"}},
		{"a redirect", viaGRPCWeb, check, says(redirected), []string{"answered 302"}},
		{"not HTTP", viaGRPCWeb, check, says(notHTTP), []string{"malformed HTTP response"}},
		{"not HTTP", viaWebSocket, check, says(notHTTP), []string{"WebSocket handshake", "isn't HTTP/1.1"}},
		{"not HTTP", viaGRPC, check, says(notHTTP), []string{"doesn't speak HTTP/2", "something else than HTTP/2"}},
		{"only HTTP/2", viaGRPCWeb, check, says("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00@\x00"), []string{"answered in HTTP/2", "--via grpc"}},
		{"nothing", viaGRPCWeb, check, says(""), []string{"closed the connection without an answer"}},
		{"nothing", viaWebSocket, check, says(""), []string{"closed before the answer"}},
		{"a reset", viaH2TS, check, socketResets, []string{"connection"}},
		{"nothing", viaGRPC, check, says(""), []string{"doesn't speak HTTP/2"}},
		{"a long header", viaGRPCWeb, check, says("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), []string{"the answer of"}},
		{"another content type", viaGRPCWeb, check, says("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\r\n"), []string{"isn't this protocol's", "answered 200, application/grpc"}},
		{"another content type", viaConnect, check, says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}"), []string{"isn't this protocol's"}},
		{"another content type", viaSSE, check, says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}"), []string{"isn't this protocol's"}},
		{"no trailers", viaGRPCWeb, check, says(webHead + framed(0, "")), []string{"cut off before its status"}},
		{"half a prefix", viaGRPCWeb, check, says(webHead + "\x00\x00"), []string{"cut off before its status"}},
		{"half a message", viaGRPCWeb, check, says(webHead + "\x00\x00\x00\x00\x05ab"), []string{"cut off before its status"}},
		{"half a message", viaConnect, watch, says(streamHead + "\x00\x00\x00\x00\x05ab"), []string{"cut off before its status"}},
		{"half a unary one", viaConnect, check, says(unaryHead + "Content-Length: 9\r\n\r\nab"), []string{"cut off before its status"}},
		{"a huge message", viaGRPCWeb, check, holds(webHead + hugeMessage), []string{"announces a message of 2147483647 bytes"}},
		{"a huge message", viaConnect, watch, holds(streamHead + hugeMessage), []string{"announces a message of 2147483647 bytes"}},
		{"a huge message", viaWebSocket, check, socketSays("grpc-websockets", 1000, "", "\x80\x00\x00\x00\x00", hugeMessage), []string{"announces a message of 2147483647 bytes"}},
		{"a reserved flag", viaGRPCWeb, check, holds(webHead + "\x04"), []string{"reserved frame flag 0x04"}},
		{"a reserved flag", viaConnect, watch, holds(streamHead + "\x80"), []string{"reserved frame flag 0x80"}},
		{"compressed", viaGRPCWeb, check, holds(webHead + framed(1, "x")), []string{"compressed a message, though"}},
		{"compressed", viaConnect, watch, holds(streamHead + framed(1, "x")), []string{"compressed a message, though"}},
		{"no status", viaGRPCWeb, check, says(webHead + framed(0x80, "x: y\r\n")), []string{"no grpc-status"}},
		{"no number", viaGRPCWeb, check, says(webHead + framed(0x80, "grpc-status: fine\r\n")), []string{"not one number"}},
		{"two statuses", viaGRPCWeb, check, says(webHead + framed(0x80, "grpc-status: 7\r\ngrpc-status: 0\r\n")), []string{"not one number"}},
		{"a status, and more", viaGRPCWeb, check, says(webHead + framed(0x80, "grpc-status: 0\r\n") + framed(0, "")), []string{"more bytes behind the trailers"}},
		{"an end, and more", viaConnect, watch, says(streamHead + framed(2, "{}") + framed(0, "")), []string{"more bytes behind the stream's end"}},
		{"a null error", viaConnect, watch, says(streamHead + framed(2, `{"error":null}`)), []string{"isn't an error of the Connect protocol"}},
		{"not JSON", viaConnect, watch, says(streamHead + framed(2, `<html>`)), []string{"isn't JSON of the Connect protocol"}},
		{"large trailers", viaGRPCWeb, check, says(webHead + framed(0x80, "x: "+strings.Repeat("x", 70_000))), []string{"trailers of 70003 bytes, over the limit"}},
		{"a header without colon", viaGRPCWeb, check, says(webHead + framed(0x80, "grpc-status 0")), []string{"malformed header block"}},
		{"not base64", viaGRPCWebText, check, holds(textHead + "AAAA!"), []string{"malformed base64"}},
		{"half a group", viaGRPCWebText, check, says(textHead + "AAA"), []string{"ends inside a group"}},
		{"not the message's type", viaGRPCWeb, check, says(webHead + framed(0, "\xff") + framed(0x80, "grpc-status: 0\r\n")), []string{"a reply of 1 byte can't be shown: a message isn't a grpc.health.v1.HealthCheckResponse"}},
		{"two replies", viaGRPCWeb, check, says(webHead + framed(0, "") + framed(0, "") + framed(0x80, "grpc-status: 0\r\n")), []string{"cardinality violation: expected <EOF>", "INTERNAL"}},
		{"two replies, and no end", viaGRPC, check, http2Says("", framed(0, "")+framed(0, ""), ""), []string{"cardinality violation: expected <EOF>", "INTERNAL"}},
		{"no reply", viaGRPCWeb, check, says(webHead + framed(0x80, "grpc-status: 0\r\n")), []string{"cardinality violation: received no response", "INTERNAL"}},
		{"not gzip", viaGRPC, check, http2Says("gzip", framed(1, "x"), "0"), []string{"the call broke: grpc: failed to decompress", "INTERNAL"}},
		{"cut gzip", viaGRPC, check, http2Says("gzip", framed(1, string(parts.Gzipped([]byte("abc"))[:14])), "0"), []string{"the call broke: grpc: failed to read decompressed data", "INTERNAL"}},
		{"no coding", viaGRPC, check, http2Says("", framed(1, "x"), "0"), []string{"the call broke: grpc: compressed flag set", "INTERNAL"}},
		{"an unknown coding", viaGRPC, check, http2Says("zip", framed(1, "x"), "0"), []string{"the call broke: grpc: Decompressor is not installed", "INTERNAL"}},
		{"half a message", viaGRPC, check, http2Says("", "\x00\x00\x00\x00\x05ab", "5"), []string{"the call broke: unexpected EOF", "INTERNAL"}},
		{"a huge message", viaGRPC, check, http2Says("", hugeMessage, ""), []string{"the call broke: grpc: received message larger than max", "RESOURCE_EXHAUSTED"}},
		{"no status", viaGRPC, check, http2Says("", "", "", "x-a", "b"), []string{"the call broke: the answer ended without a status", "UNKNOWN"}},
		{"a negative status", viaGRPC, check, http2Says("", framed(0, ""), "-1"), []string{"the answer is malformed: grpc-status is -1"}},
		{"an event without end", viaSSE, check, says(eventsHead + "data: {}\n\ndata: {"), []string{"cut off before its status"}},
		{"an event that isn't JSON", viaSSE, check, holds(eventsHead + "data: <html>\n\n"), []string{"isn't JSON"}},
		{"a false status", viaSSE, check, holds(eventsHead + "event: status\ndata: {}\n\n"), []string{"an event named status without one"}},
		{"a large header", viaWebSocket, check, socketSays("grpc-websockets", 1000, "", framed(0x80, "x: "+strings.Repeat("x", 70_000))), []string{"announces a message of 70003 bytes, over the limit"}},
		{"no subprotocol", viaWebSocket, check, socketSays("", 1000, ""), []string{"subprotocol"}},
		{"data before the header", viaWebSocket, check, socketSays("grpc-websockets", 1000, "", framed(0, "")), []string{"a message before the header"}},
		{"closed early", viaWebSocket, check, socketSays("grpc-websockets", 1011, "bug\x1b", "\x80\x00\x00\x00\x00"), []string{"closed the WebSocket with code 1011 before the call's status: bug?"}},
		{"gone", viaWebSocket, check, hangsUp(socketSays("grpc-websockets", 0, "", "\x80\x00\x00\x00\x00")), []string{"cut off before its status"}},
		{"gone", viaMessageJSON, check, hangsUp(socketSays("", 0, "", "{}")), []string{"cut off before its status"}},
		{"not JSON", viaMessageJSON, check, socketSays("", 1000, "", "<html>"), []string{"isn't JSON"}},
		{"no status", viaMessageJSON, check, socketSays("", 1001, "bye"), []string{"closed the WebSocket with code 1001 before the call's status: bye"}},
	} {
		cfg := Config{URL: serveScript(t, c.says), Via: c.via, ProtoSets: []string{healthSet(t)}}
		if bare(c.via) {
			cfg.URL, cfg.ProtoSets = cfg.URL+"/route", nil
		}
		r := run(t, cfg, c.method)
		var told *StatusError
		if r.err == nil || errors.As(r.err, &told) || !contains(r.err.Error(), c.want...) || strings.ContainsRune(r.err.Error(), 0x1b) || strings.Contains(r.err.Error(), "use of closed") {
			t.Errorf("%s: %s: %v, want %q", c.via, c.name, r.err, c.want)
		}
	}
}

// TestRepliesArePrintable: a terminal acts on C1 controls, too, and JSON may have them.
func TestRepliesArePrintable(t *testing.T) {
	says := socketSays("", 1000, "", "{\"a\":\"\u009b31m\x7f\u202e\"}", `{"@status":{"code":5,"message":"no\u009b"}}`)
	for _, asJSON := range []bool{false, true} {
		r := run(t, Config{URL: serveScript(t, says) + "/route", Via: viaMessageJSON, JSON: asJSON}, check)
		if !strings.Contains(r.stdout, `\u009b31m\u007f\u202e`) || terminal.Lines(r.stdout+r.stderr) != r.stdout+r.stderr {
			t.Errorf("%q, %q, %v", r.stdout, r.stderr, r.err)
		}
	}
}

// TestStatusesInOddPlaces: servers write them there, and clients take them.
func TestStatusesInOddPlaces(t *testing.T) {
	for _, c := range []struct {
		name, via, method string
		says              script
		want              codes.Code
	}{
		{"in the header, as improbable's server", viaGRPCWeb, check, says("HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\nGrpc-Status: 5\r\nGrpc-Message: no%20such\r\nContent-Length: 0\r\n\r\n"), codes.NotFound},
		{"in the header, with an HTTP status", viaGRPCWeb, check, says("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nGrpc-Status: 12\r\n\r\nno route"), codes.Unimplemented},
		{"trailers of another case", viaGRPCWeb, check, says(webHead + framed(0x80, "Grpc-Status:16\n")), codes.Unauthenticated},
		{"in one frame, as improbable's server", viaWebSocket, check, socketSays("grpc-websockets", 1000, "", framed(0x80, "Grpc-Status: 7\r\n")), codes.PermissionDenied},
		{"a frame in two messages", viaWebSocket, check, socketSays("grpc-websockets", 1000, "", "\x80\x00\x00\x00\x00", "\x80\x00\x00\x00\x11", "grpc-status: 10\r\n"), codes.Aborted},
		{"as grpc-go words its own", viaGRPC, check, http2Says("", "", "8", "grpc-message", "grpc: received message larger than max (5000005 vs. 4194304)"), codes.ResourceExhausted},
		{"as grpc-go words its own, with another code", viaGRPC, check, http2Says("", "", "2", "grpc-message", "unexpected EOF"), codes.Unknown},
		{"without a text", viaGRPC, check, http2Says("", "", "2"), codes.Unknown},
		{"a stream's error in JSON", viaConnect, "grpc.health.v1.Health/Watch", says("HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n{\"code\":\"unauthenticated\"}"), codes.Unauthenticated},
		{"the close frame's", viaMessageJSON, check, socketSays("", 4014, "DRAINING: soon"), codes.Unavailable},
		{"the last message's", viaMessageJSON, check, socketSays("", 4014, "DRAINING: s", `{"@status":{"code":14,"message":"soon"}}`), codes.Unavailable},
	} {
		cfg := Config{URL: serveScript(t, c.says), Via: c.via, ProtoSets: []string{healthSet(t)}}
		if bare(c.via) {
			cfg.URL, cfg.ProtoSets = cfg.URL+"/route", nil
		}
		r := run(t, cfg, c.method)
		var told *StatusError
		if !errors.As(r.err, &told) || told.Status.Code() != c.want {
			t.Errorf("%s: %s: %v, want %v", c.via, c.name, r.err, c.want)
		}
	}
}

// TestHeldEnds: a call ends with its status, whether or not the answer ever ends.
func TestHeldEnds(t *testing.T) {
	const watch = "grpc.health.v1.Health/Watch"
	trailers := framed(0x80, "grpc-status: 5\r\n")
	for _, c := range []struct {
		name, via, method string
		says              script
		want              codes.Code
	}{
		{"trailers", viaGRPCWeb, check, holds(webHead + trailers), codes.NotFound},
		{"a message and trailers", viaGRPCWeb, watch, holds(webHead + framed(0, "\x08\x01") + trailers), codes.NotFound},
		{"in the header", viaGRPCWeb, check, holds("HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\nGrpc-Status: 5\r\n\r\n"), codes.NotFound},
		{"trailers", viaGRPCWebText, check, holds(textHead + base64.StdEncoding.EncodeToString([]byte(trailers))), codes.NotFound},
		{"the end of a stream", viaConnect, watch, holds(streamHead + framed(2, `{"error":{"code":"not_found"}}`)), codes.NotFound},
		{"an event", viaSSE, check, holds(eventsHead + "event: status\ndata: {\"@status\":{\"code\":5}}\n\n"), codes.NotFound},
		{"trailers", viaWebSocket, check, hushed("grpc-websockets", "\x80\x00\x00\x00\x00", trailers), codes.NotFound},
	} {
		cfg := Config{URL: serveScript(t, c.says), Via: c.via, ProtoSets: []string{healthSet(t)}}
		if bare(c.via) {
			cfg.URL, cfg.ProtoSets = cfg.URL+"/route", nil
		}
		r := run(t, cfg, c.method)
		var told *StatusError
		if !errors.As(r.err, &told) || told.Status.Code() != c.want {
			t.Errorf("%s: %s: %v, want %v", c.via, c.name, r.err, c.want)
		}
	}
	for via, head := range map[string]string{viaGRPCWeb: "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n<title>No</title>", viaConnect: badGateway} {
		if r := run(t, Config{URL: serveScript(t, holds(head)), Via: via, ProtoSets: []string{healthSet(t)}}, check); r.err == nil || !strings.Contains(r.err.Error(), "isn't this protocol's") {
			t.Errorf("%s: a page that doesn't end: %v", via, r.err)
		}
	}
}

// TestSilentServers end with --max-time, whatever they are silent about.
func TestSilentServers(t *testing.T) {
	for via, silences := range map[string][]script{
		viaGRPC:        {holds(""), holds("\x00\x00")},
		viaGRPCWeb:     {holds(""), holds("HTTP/1.1 200"), holds(webHead), holds(webHead + "\x00\x00"), holds(webHead + "\x00\x00\x00\x00\x05a")},
		viaConnect:     {holds(""), holds(unaryHead + "\r\n")},
		viaWebSocket:   {holds(""), socketSays("grpc-websockets", 0, ""), hushed("grpc-websockets"), hushed("grpc-websockets", "\x80\x00\x00\x00\x00", "\x00\x00")},
		viaH2TS:        {holds(""), hushed("h2ts")},
		viaSSE:         {holds(""), holds(eventsHead), holds(eventsHead + "data: {")},
		viaMessageJSON: {holds(""), hushed("")},
		viaAuto:        {holds("")},
	} {
		for i, s := range silences {
			cfg := Config{URL: serveScript(t, s), Via: via, ProtoSets: []string{healthSet(t)}, MaxTime: 200 * time.Millisecond}
			if bare(via) {
				cfg.URL, cfg.ProtoSets = cfg.URL+"/route", nil
			}
			r := run(t, cfg, check)
			var told *StatusError
			closed := via == viaWebSocket && i == 1
			if !closed && (!errors.As(r.err, &told) || told.Status.Code() != codes.DeadlineExceeded) || r.err == nil {
				t.Errorf("%s, silence %d: %v", via, i, r.err)
			}
		}
	}
}

// hushed is a WebSocket that says some messages, and then nothing.
func hushed(subprotocol string, messages ...string) script {
	return func(r *http.Request, conn net.Conn, in *bufio.Reader) {
		socketSays(subprotocol, 0, "", messages...)(r, conn, in)
		_, _ = io.Copy(io.Discard, in) // until the client goes
	}
}

// TestEndlessAnswers end when nobody reads any more, or when the person has had enough.
func TestEndlessAnswers(t *testing.T) {
	for via, part := range map[string]string{
		viaGRPCWeb: framed(0, "\x08\x01"),
		viaSSE:     ": heart-beat\n\n",
	} {
		head := map[string]string{viaGRPCWeb: webHead, viaSSE: eventsHead}[via]
		cfg := Config{Via: via, ProtoSets: []string{healthSet(t)}, URL: serveScript(t, func(_ *http.Request, conn net.Conn, _ *bufio.Reader) {
			_, err := io.WriteString(conn, head)
			for err == nil {
				_, err = io.WriteString(conn, part)
			}
		})}
		if bare(via) {
			cfg.URL, cfg.ProtoSets = cfg.URL+"/route", nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(100*time.Millisecond, cancel)
		if r := runUntil(ctx, cfg, "grpc.health.v1.Health/Watch"); !errors.Is(r.err, context.Canceled) {
			t.Errorf("%s: %v", via, r.err)
		}
		stop.Stop()
	}
}

// TestNobodyReads: a full or closed standard output ends the call.
func TestNobodyReads(t *testing.T) {
	cfg := Config{Via: viaGRPCWeb, ProtoSets: []string{healthSet(t)}, URL: serveScript(t, holds(webHead+framed(0, "")))}
	from, to := io.Pipe()
	_ = from.Close() // never fails
	cfg.Words, cfg.Stdout, cfg.Stderr, cfg.Proxy = []string{check}, to, io.Discard, "none"
	var running sync.WaitGroup
	var err error
	done := make(chan struct{})
	running.Go(func() { defer close(done); err = Run(t.Context(), cfg) })
	within(t, "the call ends", done)
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v, want %v", err, io.ErrClosedPipe)
	}
}

// TestReflectionThatLies: a server's descriptors are as untrusted as its answers.
func TestReflectionThatLies(t *testing.T) {
	trailers := framed(0x80, "grpc-status: 0\r\n")
	for name, c := range map[string]struct {
		says string
		want string
	}{
		"not a message":      {framed(0, "\xff\xff") + trailers, "malformed"},
		"no answer":          {trailers, "no answer to a question"},
		"two answers":        {framed(0, "") + framed(0, "") + trailers, "more than one answer"},
		"an empty one":       {framed(0, "") + trailers, "the answer doesn't have grpc.health.v1.Health"},
		"not a file":         {framed(0, "\x22\x03\x0a\x01\xff") + trailers, "FileDescriptorProto"},
		"another status":     {framed(0x80, "grpc-status: 7\r\ngrpc-message: not you\x1b\r\n"), "PERMISSION_DENIED: not you"},
		"no reflection":      {framed(0x80, "grpc-status: 12\r\n"), "the server has no reflection"},
		"no reflection, why": {framed(0x80, "grpc-status: 12\r\ngrpc-message: not%20by%1Bthis%20way\r\n"), `; it answered "not by?this way"`},
		"not a service":      {"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n<title>a shop\x1b</title>", `answered 404, "a shop?"`},
		"a complaint of its": {framed(0, "\x3a\x05\x12\x03no\x1b") + trailers, "grpc.health.v1.Health"},
	} {
		if !strings.HasPrefix(c.says, "HTTP/") {
			c.says = webHead + c.says
		}
		r := run(t, Config{Via: viaGRPCWeb, URL: serveScript(t, says(c.says))}, check)
		if r.err == nil || !strings.Contains(r.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, r.err, c.want)
		}
	}
}

// FuzzFrames: what a trace says doesn't depend on how the bytes were cut, and nothing breaks it.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"), 3)
	f.Add([]byte("\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88\x00\x00\x08\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x03abc"), 1)
	f.Add([]byte("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"), 5)
	f.Add([]byte("\xff\xff\xff\x00\x00\x00\x00\x00\x00"), 2)
	f.Fuzz(func(t *testing.T, wire []byte, cut int) {
		tell := func(pieces ...[]byte) string {
			var b strings.Builder
			tr := newTrace(&b)
			fr := newFrames(tr, received)
			for _, p := range pieces {
				fr.feed(p)
			}
			if fr.buf.Len() > maxTracedFrame+16 {
				t.Errorf("%d bytes are kept", fr.buf.Len())
			}
			var lines []string
			for line := range strings.Lines(b.String()) {
				lines = append(lines, strings.TrimLeft(line, " 0123456789."))
			}
			return strings.Join(lines, "")
		}
		at := min(max(cut, 0), len(wire))
		if whole, pieces := tell(wire), tell(wire[:at], wire[at:]); whole != pieces {
			t.Errorf("%x: %q at once, %q in pieces", wire, whole, pieces)
		}
	})
}
