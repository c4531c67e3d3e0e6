package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// A far end answers a handshake with a text, so many bytes at a time. ANSWER stands for the
// right Sec-WebSocket-Accept.
type answering struct {
	pieces
	text    string
	request []byte
}

func (a *answering) Write(p []byte) (int, error) {
	if a.request == nil {
		a.request = bytes.Clone(p)
		_, key, _ := strings.Cut(string(p), "Sec-WebSocket-Key: ")
		key, _, _ = strings.Cut(key, "\r\n")
		a.rest = []byte(strings.ReplaceAll(a.text, "ANSWER", acceptance(key)))
	}
	return a.pieces.Write(p)
}

func (a *answering) LocalAddr() net.Addr { return &net.UnixAddr{} }

const (
	switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	accepted = "Sec-WebSocket-Accept: ANSWER\r\n"
	chosen   = "Sec-WebSocket-Protocol: test\r\n"
)

func openAnswered(t testing.TB, text string, arriving int) (*Conn, *answering, error) {
	conn := &answering{text: text, pieces: pieces{size: arriving}}
	ws, err := Open(conn, request(t), Options{Subprotocol: "test", Pool: mem.DefaultBufferPool()})
	return ws, conn, err
}

// TestAnswersToAHandshake: each that makes no WebSocket says what it was.
func TestAnswersToAHandshake(t *testing.T) {
	page := "HTTP/1.1 403 Forbidden\r\nVia: 1.1 box\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><HEAD>\n<Title lang=en>Access\n denied &amp; logged\x1b[2J</title>" + strings.Repeat("x", 2<<10)
	for _, c := range []struct {
		name, answer string
		code         int
		want         string // in the error; "": a WebSocket
	}{
		{"right", switched + accepted + chosen + "\r\n", 0, ""},
		{"in another case", "HTTP/1.1 101 \r\nupgrade: WebSocket\r\nCONNECTION: keep-alive, upgrade\r\nsec-websocket-accept:  ANSWER \r\nSec-WebSocket-Protocol: TEST\r\n\r\n", 0, ""},
		{"behind interim ones", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + switched + accepted + chosen + "\r\n", 0, ""},
		{"another key", switched + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + chosen + "\r\n", 101, "another key"},
		{"two keys", switched + accepted + accepted + chosen + "\r\n", 101, "another key"},
		{"no key", switched + chosen + "\r\n", 101, "no Sec-WebSocket-Accept"},
		{"no subprotocol", switched + accepted + "\r\n", 101, `doesn't speak the subprotocol "test"`},
		{"another subprotocol", switched + accepted + "Sec-WebSocket-Protocol: chat\r\n\r\n", 101, `"chat"`},
		{"two subprotocols", switched + accepted + chosen + chosen + "\r\n", 101, `"test, test"`},
		{"an extension", switched + accepted + chosen + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 101, "permessage-deflate"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 101, `switches to "h2c"`},
		{"no Connection", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" + accepted + chosen + "\r\n", 101, "Connection: Upgrade"},
		{"a page", page, 403, `answered 403 Forbidden ("Access denied & logged?[2J")`},
		{"a text", "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\n\r\nslow down\nplease\n", 429, `("slow down please")`},
		{"a text in chunks", "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400, `("hello"): the server doesn't see the Upgrade field`},
		{"no upgrade", "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", 426, "doesn't see the Upgrade field"},
		{"a page in its place", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "doesn't see the Upgrade field"},
		{"a proxy", "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", 407, "credentials"},
		{"a redirection", "HTTP/1.1 302 Found\r\nLocation: https://login.example.com/\r\nContent-Length: 0\r\n\r\n", 302, "answered 302 Found"},
		{"HTTP/2", "\x00\x00\x12\x04\x00\x00\x00\x00\x00", 0, "closed before the answer"},
		{"HTTP/2, and more", "\x00\x00\x12\x04\x00\x00\x00\x00\x00\n", 0, "isn't HTTP/1.1"},
		{"a greeting", "SSH-2.0-OpenSSH_9.2\r\n", 0, "isn't HTTP/1.1"},
		{"a bad header", "HTTP/1.1 101 Switching Protocols\r\nbad header\r\n\r\n", 0, "isn't HTTP/1.1"},
		{"half a header", switched, 0, "closed before the answer"},
		{"nothing", "", 0, "closed before the answer"},
		{"a long header", switched + strings.Repeat("X-Fill: "+strings.Repeat("x", 1000)+"\r\n", 80) + accepted + chosen + "\r\n", 0, "over 64 KiB"},
		{"interim ones for ever", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5000), 0, "over 64 KiB"},
	} {
		for _, arriving := range []int{1, 4 << 10, 1 << 20} {
			ws, conn, err := openAnswered(t, c.answer, arriving)
			if err == nil {
				ws.Drop()
			}
			if (err == nil) != (c.want == "") {
				t.Errorf("%s, by %d: %v, want %q", c.name, arriving, err, c.want)
			}
			if err == nil || c.want == "" {
				continue
			}
			var failed *HandshakeError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), c.want) || failed.Code != c.code || len(failed.Body) > maxPage {
				t.Errorf("%s, by %d: %v with %+v, want %q, %d", c.name, arriving, err, failed, c.want, c.code)
			}
			if conn.written.Len() != len(conn.request) {
				t.Errorf("%s, by %d: more than the handshake was written", c.name, arriving)
			}
		}
	}
	_, _, err := openAnswered(t, page, 100)
	var failed *HandshakeError
	if !errors.As(err, &failed) || failed.Header.Get("Via") != "1.1 box" || len(failed.Body) != maxPage {
		t.Errorf("of a page the error has %+v", failed)
	}
}

// TestHandshakeAsksAsBrowsersDo: the fields of the handshake are those of RFC 6455, spelled
// like there, whatever others the caller adds. A value can't add another field.
func TestHandshakeAsksAsBrowsersDo(t *testing.T) {
	conn := &answering{text: switched + accepted + chosen + "\r\n", pieces: pieces{size: 100}}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "wss://edge.example.com:8443/a%2Fb?c=d", http.NoBody)
	r.Header = http.Header{
		"Authorization": {"Bearer token"}, "X-Two": {"1", "2\r\nX-Three: 3"}, "bad name": {"x"},
		"Upgrade": {"h2c"}, "sec-websocket-key": {"mine"}, "Sec-Websocket-Extensions": {"permessage-deflate"}, "Connection": {"close"},
	}
	ws, err := Open(conn, r, Options{Subprotocol: "test", Pool: mem.DefaultBufferPool()})
	if err != nil {
		t.Fatal(err)
	}
	ws.Drop()
	head, key, _ := strings.Cut(string(conn.request), "Sec-WebSocket-Key: ")
	key, rest, _ := strings.Cut(key, "\r\n")
	const want = "GET /a%2Fb?c=d HTTP/1.1\r\nHost: edge.example.com:8443\r\nUser-Agent: culvert\r\nAuthorization: Bearer token\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: KEY\r\nSec-WebSocket-Protocol: test\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nX-Two: 1\r\nX-Two: 2  X-Three: 3\r\n\r\n"
	if got := head + "Sec-WebSocket-Key: KEY\r\n" + rest; got != want || len(key) != 24 {
		t.Errorf("asked with the key %q and\n%s\nwant\n%s", key, got, want)
	}
	if r.Header.Get("Upgrade") != "h2c" || len(r.Header) != 7 {
		t.Errorf("the caller's header has become %v", r.Header)
	}
}

// TestFramesBehindTheAnswer came with it, and are read.
func TestFramesBehindTheAnswer(t *testing.T) {
	for _, arriving := range []int{1, 7, 300, 1 << 20} {
		ws, _, err := openAnswered(t, switched+accepted+chosen+"\r\n"+string(wstest.Plain(wstest.Binary, parts.Pattern(20<<10))), arriving)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ws.NextMessage(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(ws); err != nil || !bytes.Equal(got, parts.Pattern(20<<10)) {
			t.Errorf("by %d: %d bytes and %v", arriving, len(got), err)
		}
		ws.Drop()
	}
}

// TestHandshakesAreBounded, whatever the far end does: by their own time, and by the
// context's. A page that doesn't end is told as far as it came.
func TestHandshakesAreBounded(t *testing.T) {
	mine := errors.New("the caller has given up")
	for name, c := range map[string]struct {
		answer  string
		far     func(conn net.Conn)
		cancel  time.Duration // of the context, with mine; 0: never
		takes   time.Duration
		code    int
		err     error
		inError string
	}{
		"silence":            {"", nil, 0, openTimeout, 0, context.DeadlineExceeded, "no answer in time"},
		"half a header":      {switched, nil, 0, openTimeout, 0, context.DeadlineExceeded, "no answer in time"},
		"interim for ever":   {"", trickle("HTTP/1.1 102 Processing\r\n\r\n"), 0, openTimeout, 0, context.DeadlineExceeded, "no answer in time"},
		"a context's end":    {"", nil, 3 * time.Second, 3 * time.Second, 0, mine, mine.Error()},
		"half a page":        {"HTTP/1.1 403 Forbidden\r\n\r\n<title>No</title>", nil, 0, pageTimeout, 403, nil, `("No")`},
		"no page":            {"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\n", nil, 0, pageTimeout, 403, nil, "403"},
		"a page for ever":    {"HTTP/1.1 403 Forbidden\r\n\r\n", trickle("<p>"), 0, pageTimeout, 403, nil, "403"},
		"a far end that has": {"", func(conn net.Conn) { _ = conn.Close() }, 0, 0, 0, io.ErrUnexpectedEOF, "closed before the answer"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, func() { cancel(mine) })
				}
				var serving sync.WaitGroup
				serving.Go(func() {
					buf := make([]byte, 4<<10)
					if _, err := far.Read(buf); err != nil {
						t.Error(err)
					}
					_, _ = io.WriteString(far, c.answer) // the near end may have closed
					if c.far != nil {
						c.far(far)
					}
				})
				start := time.Now()
				_, err := Open(near, request(t).WithContext(ctx), Options{Subprotocol: "test", Pool: mem.DefaultBufferPool()})
				if got := time.Since(start); got != c.takes {
					t.Errorf("it took %v, want %v", got, c.takes)
				}
				var failed *HandshakeError
				if !errors.As(err, &failed) || failed.Code != c.code || !strings.Contains(err.Error(), c.inError) || c.err != nil && !errors.Is(err, c.err) {
					t.Errorf("it failed with %v, %+v; want %d, %v", err, failed, c.code, c.err)
				}
				_ = near.Close()
				serving.Wait()
			})
		})
	}
}

// trickle returns a far end that says the same each tenth of a second, until it can't.
func trickle(text string) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
			<-time.After(100 * time.Millisecond)
		}
	}
}

// TestContextThatHasEnded asks nothing for long, and a connection that is gone says so.
func TestContextThatHasEnded(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	defer near.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(near, request(t).WithContext(ctx), Options{Pool: mem.DefaultBufferPool()}); !errors.Is(err, context.Canceled) {
		t.Errorf("failed with %v, want %v", err, context.Canceled)
	}
	_ = near.Close()
	if _, err := Open(near, request(t), Options{Pool: mem.DefaultBufferPool()}); !errors.As(err, new(*HandshakeError)) {
		t.Errorf("failed with %v, want a HandshakeError", err)
	}
}

// FuzzOpen: whatever answers, and however it arrives, the outcome is the same: a WebSocket for
// an answer with the right key, or an error that can be shown.
func FuzzOpen(f *testing.F) {
	for _, seed := range []string{
		switched + accepted + chosen + "\r\n\x82\x01x",
		"HTTP/1.1 100 Continue\r\n\r\n" + switched + accepted + "\r\n",
		"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n1e\r\n<title>Blocked &#27;</title>\r\n0\r\n\r\n",
		"HTTP/1.0 407 \x1b\r\nContent-Type: text/plain\r\n\r\n\x07\xffno",
		"\x16\x03\x01 HTTP?",
	} {
		f.Add(seed, byte(0))
		f.Add(seed, byte(50))
	}
	f.Fuzz(func(t *testing.T, answer string, arriving byte) {
		if len(answer) > parts.MaxFuzzed {
			return
		}
		whole, wholeErr := openedBy(t, answer, len(answer)+100)
		pieces, err := openedBy(t, answer, int(arriving)+1)
		if whole != pieces || fmt.Sprint(err) != fmt.Sprint(wholeErr) && err.Code != 0 {
			t.Errorf("whole: %s, %v; in pieces: %s, %v", whole, wholeErr, pieces, err)
		}
	})
}

// openedBy returns what comes behind an answer, or why there is no WebSocket.
func openedBy(t *testing.T, answer string, arriving int) (read string, failed *HandshakeError) {
	ws, _, err := openAnswered(t, answer, arriving)
	if err == nil {
		defer ws.Drop()
		if !strings.Contains(answer, "ANSWER") {
			t.Errorf("%q makes a WebSocket", answer)
		}
		for {
			op, err := ws.NextMessage()
			var message []byte
			if err == nil {
				message, err = io.ReadAll(ws)
			}
			if err != nil {
				return read + err.Error(), nil
			}
			read += fmt.Sprintf("%x %q\n", op, message)
		}
	}
	if !errors.As(err, &failed) || len(failed.Body) > maxPage {
		t.Fatalf("%q fails with %#v", answer, err)
	}
	if text := err.Error(); !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || len(failed.Says()) > maxSaid+len("…") {
		t.Errorf("%q fails with %q", answer, text)
	}
	return "", failed
}
