package bridgetest

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The vectors of the wire reference.
const (
	unaryBody = "000000000d0a0b68656c6c6f20776f726c64" + "8000000010677270632d7374617475733a20300d0a"
	errorBody = "8000000029677270632d7374617475733a2031360d0a677270632d6d6573736167653a206e6f20746f6b656e0d0a"
	richBody  = "8000000060677270632d7374617475733a20350d0a677270632d6d6573736167653a206e6f20636166254333254139" +
		"3a203130302532350d0a782d613a20310d0a782d613a20320d0a782d622d62696e3a20414145430d0a782d622d62696e3a202f770d0a"
	textBody = "AAAAAA0=CgtoZWxsbyB3b3JsZA==gAAAABA=Z3JwYy1zdGF0dXM6IDANCg=="
)

func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(b)
}

// answered makes a call with the client against a server that gives one
// answer to whatever comes.
func answered(t *testing.T, d dialect, answer string) (r result) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body) // the client judges
		_, _ = io.WriteString(conn, answer)  // the client judges
	}()
	c := &http1Client{d: &dialer{address: ln.Addr().String()}, dialect: d, whole: true}
	s, err := c.open(t.Context(), call{method: defaultMethod})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.send(hello), s.closeSend()); err != nil {
		t.Fatal(err)
	}
	r = (&callT{t: &trial{T: t}, stream: s}).anyEnd()
	c.close()
	_ = ln.Close() // served once
	<-served
	return r
}

// http200 is the head of a proper answer before a body that ends with the
// connection.
func http200(d dialect) string {
	return "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: " + d.contentType() + "\r\n\r\n"
}

func TestClientsReadTheVectors(t *testing.T) {
	for name, d := range map[string]dialect{unhex(unaryBody): dialectWeb, textBody: dialectText} {
		r := answered(t, d, http200(d)+name)
		if r.status.Code() != codes.OK || len(r.messages) != 1 || string(r.messages[0]) != "\x0a\x0bhello world" {
			t.Errorf("%.20q: read as %v, %s, %v", name, r.status, abridged(r.messages), r.err)
		}
	}
	if r := answered(t, dialectWeb, http200(dialectWeb)+unhex(errorBody)); r.status.Code() != codes.Unauthenticated || r.status.Message() != "no token" {
		t.Errorf("error body: read as %v, %v", r.status, r.err)
	}
	r := answered(t, dialectWeb, http200(dialectWeb)+unhex(richBody))
	if r.status.Code() != codes.NotFound || r.status.Message() != "no café: 100%" {
		t.Errorf("rich error body: read as %v, %v", r.status, r.err)
	}
	want := metadata.MD{"x-a": {"1", "2"}, "x-b-bin": {"\x00\x01\x02", "\xff"}}
	if got := r.trailer; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rich error body: trailer %q, want %q", got, want)
	}
}

func TestClientsSendTheVectors(t *testing.T) {
	if got, want := hex.EncodeToString(dialectWeb.message("", hello)), "00000000070a05776f726c64"; got != want {
		t.Errorf("request frame %s, want %s", got, want)
	}
	got := hex.EncodeToString(appendBlock(nil, [][2]string{{"content-type", "application/grpc-web+proto"}, {"x-grpc-web", "1"}, {"authorization", "Bearer t"}}))
	want := "636f6e74656e742d747970653a206170706c69636174696f6e2f677270632d7765622b70726f746f0d0a782d677270632d7765623a20310d0a617574686f72697a6174696f6e3a2042656172657220740d0a"
	if got != want {
		t.Errorf("header block %s, want %s", got, want)
	}
}

// TestClientsRefuse holds the clients to their strictness: an answer that a
// published client would stumble over is no status here.
func TestClientsRefuse(t *testing.T) {
	ok := unhex(unaryBody)
	trailers := func(block string) string { return string(frame(flagTrailers, []byte(block))) }
	head := http200(dialectWeb)
	for name, answer := range map[string]string{
		"no trailers frame":          head + ok[:18],
		"a frame cut":                head + ok[:len(ok)-1],
		"bytes after the trailers":   head + ok + "\x00",
		"two trailers frames":        head + ok + ok[18:],
		"status in the HTTP header":  strings.Replace(head, "\r\n\r\n", "\r\ngrpc-status: 0\r\n\r\n", 1) + ok,
		"canonical case":             head + trailers("Grpc-Status: 0\r\n"),
		"bare LF":                    head + trailers("grpc-status: 0\n"),
		"no status":                  head + trailers("x-a: 1\r\n"),
		"two statuses":               head + trailers("grpc-status: 7\r\ngrpc-status: 0\r\n"),
		"status with a zero before":  head + trailers("grpc-status: 00\r\n"),
		"status beyond 16":           head + trailers("grpc-status: 17\r\n"),
		"stray percent":              head + trailers("grpc-status: 5\r\ngrpc-message: 100%\r\n"),
		"message not UTF-8":          head + trailers("grpc-status: 5\r\ngrpc-message: %FF\r\n"),
		"padded binary metadata":     head + trailers("grpc-status: 5\r\nx-b-bin: AA==\r\n"),
		"details that contradict":    head + trailers("grpc-status: 5\r\ngrpc-status-details-bin: CAA\r\n"),
		"compressed message":         head + "\x01" + ok[1:],
		"content type with more":     strings.Replace(head, "+proto", "+proto; charset=utf-8", 1) + ok,
		"another content type":       strings.Replace(head, "grpc-web", "grpc", 1) + ok,
		"HTTP 404":                   strings.Replace(head, "200", "404", 1) + ok,
		"text where binary was sent": head + textBody,
		"chunks cut":                 strings.Replace(head, "connection: close", "transfer-encoding: chunked", 1) + fmt.Sprintf("%x\r\n%s\r\n", len(ok), ok),
	} {
		if r := answered(t, dialectWeb, answer); r.status != nil {
			t.Errorf("%s: read as %v, want no status", name, r.status)
		}
	}
	for name, text := range map[string]string{
		"a quantum split": textBody[:len(textBody)-1], "not base64": "!!!!" + textBody, "padding inside": "AA=A" + textBody, "binary": ok,
	} {
		if r := answered(t, dialectText, http200(dialectText)+text); r.status != nil {
			t.Errorf("%s: read as %v, want no status", name, r.status)
		}
	}
}

// wsAnswered makes a call over grpc-websockets with a server that writes
// messages and closes.
func wsAnswered(t *testing.T, code websocket.StatusCode, messages ...string) (r result) {
	t.Helper()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"grpc-websockets"}})
		if err != nil {
			return
		}
		defer conn.CloseNow() //nolint:errcheck // the client judges
		for _, m := range messages {
			_ = conn.Write(r.Context(), websocket.MessageBinary, []byte(m)) // the client judges
		}
		if code != 0 {
			_ = conn.Close(code, "") // the client judges
		}
	}))
	defer hs.Close()
	c := &websocketClient{sockets{d: &dialer{address: hs.Listener.Addr().String()}}}
	defer c.close()
	s, err := c.open(context.Background(), call{method: defaultMethod})
	if err != nil {
		t.Fatal(err)
	}
	return (&callT{t: &trial{T: t}, stream: s}).anyEnd()
}

func TestWebSocketClient(t *testing.T) {
	ok := unhex(unaryBody)
	header, data, trailers := "\x80\x00\x00\x00\x00", ok[:18], ok[18:]
	if r := wsAnswered(t, 1000, header, data, trailers); r.status.Code() != codes.OK || len(r.messages) != 1 {
		t.Errorf("read as %v, %s, %v", r.status, abridged(r.messages), r.err)
	}
	for name, r := range map[string]result{
		"no header frame":          wsAnswered(t, 1000, data, trailers),
		"status as header":         wsAnswered(t, 1000, trailers),
		"two frames in a message":  wsAnswered(t, 1000, header, data+trailers),
		"a frame in two messages":  wsAnswered(t, 1000, header, data[:5], data[5:], trailers),
		"a message after trailers": wsAnswered(t, 1000, header, trailers, data),
		"another close code":       wsAnswered(t, 1011, header, trailers),
		"no close":                 wsAnswered(t, 0, header, trailers),
		"no trailers":              wsAnswered(t, 1000, header, data),
	} {
		if r.status != nil {
			t.Errorf("%s: read as %v, want no status", name, r.status)
		}
	}
}

func TestPlainClients(t *testing.T) {
	const (
		one      = `{"data":"b25l"}`
		ok       = `{"@status":{"code":0,"status":"OK"}}`
		notFound = `{"@status":{"code":5,"status":"NOT_FOUND","message":"no room"}}`
		refused  = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" + `{"code":"not_found","message":"no room"}`
	)
	lines := strings.Replace(http200(dialectLines), "application/json", "application/x-ndjson", 1)
	events := strings.Replace(http200(dialectEvents), "application/json", "text/event-stream", 1)
	failed := strings.Split(refused, "\r\n\r\n")[0] + "\r\n\r\n"
	for d, answers := range map[dialect][3]string{
		dialectLines:  {lines + one + "\n" + ok + "\n", lines + one + "\n" + notFound + "\n", refused},
		dialectEvents: {events + "data: " + one + "\n\nevent: status\ndata: " + ok + "\n\n", events + "event: status\ndata: " + notFound + "\n\n", refused},
		dialectPost:   {http200(dialectPost) + one, refused, refused},
		dialectPoll:   {http200(dialectPoll) + "one", failed + notFound + "\n", failed + notFound},
	} {
		if r := answered(t, d, answers[0]); r.status.Code() != codes.OK || len(r.messages) != 1 || string(r.messages[0]) != "one" {
			t.Errorf("read as %v, %s, %v", r.status, abridged(r.messages), r.err)
		}
		for _, answer := range answers[1:] {
			if r := answered(t, d, answer); r.status.Code() != codes.NotFound || r.status.Message() != "no room" {
				t.Errorf("%q: read as %v, %v", answer, r.status, r.err)
			}
		}
	}
	for name, r := range map[string]result{
		"no status":               answered(t, dialectLines, lines+one+"\n"),
		"half a line":             answered(t, dialectLines, lines+ok),
		"a line after the status": answered(t, dialectLines, lines+ok+"\n"+one+"\n"),
		"an empty line":           answered(t, dialectLines, lines+"\n"+ok+"\n"),
		"another content type":    answered(t, dialectLines, events+ok+"\n"),
		"no last event":           answered(t, dialectEvents, events+"data: "+one+"\n\n"),
		"a status without a name": answered(t, dialectEvents, events+"data: "+ok+"\n\n"),
		"a name without a status": answered(t, dialectEvents, events+"event: status\ndata: "+one+"\n\n"),
		"a line that isn't data":  answered(t, dialectEvents, events+"id: 1\n\nevent: status\ndata: "+ok+"\n\n"),
		"an event without an end": answered(t, dialectEvents, events+"event: status\ndata: "+ok+"\n"),
		"a poll that fails well":  answered(t, dialectPoll, failed+ok),
		"another HTTP status":     answered(t, dialectEvents, strings.Replace(refused, "404", "500", 1)),
	} {
		if r.status != nil {
			t.Errorf("%s: read as %v, want no status", name, r.status)
		}
	}
}

func TestTransportsSayWhatTheyCannot(t *testing.T) {
	for _, tr := range transports {
		for need, why := range tr.cannot {
			if why == "" {
				t.Errorf("%s: no reason for need %b", tr.name, need)
			}
		}
	}
	names := make(map[string]bool)
	for _, sc := range scenarios {
		if names[sc.name] {
			t.Errorf("two scenarios are named %q", sc.name)
		}
		names[sc.name] = true
	}
	for name, why := range standardLacks {
		if !names[name] || why == "" {
			t.Errorf("net/http lacks %q, which is no scenario or has no reason: %q", name, why)
		}
	}
}

func TestLeftGoroutineIsFound(t *testing.T) {
	label, other := newLabel(), newLabel()
	stop, stopped := make(chan struct{}), make(chan struct{})
	label.do(func() {
		go func() { defer close(stopped); <-stop }()
	})
	if n, stacks := label.running(); n != 1 || !strings.Contains(stacks, "TestLeftGoroutineIsFound") {
		t.Errorf("%d goroutines, want 1:\n%s", n, stacks)
	}
	if n, _ := other.running(); n != 0 {
		t.Errorf("%d goroutines of another label, want none", n)
	}
	close(stop)
	<-stopped
	if left := label.atMost(0); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

// bareAnswered makes a call of bare messages with a server that writes messages, those
// that begin with "@" as text, and closes.
func bareAnswered(t *testing.T, code websocket.StatusCode, reason string, messages ...string) (r result) {
	t.Helper()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow() //nolint:errcheck // the client judges
		for _, m := range messages {
			kind := websocket.MessageBinary
			m, isText := strings.CutPrefix(m, "@")
			if isText {
				kind = websocket.MessageText
			}
			_ = conn.Write(r.Context(), kind, []byte(m)) // the client judges
		}
		if code != 0 {
			_ = conn.Close(code, reason) // the client judges
		}
	}))
	defer hs.Close()
	c := &messageClient{sockets: sockets{d: &dialer{address: hs.Listener.Addr().String()}}, framing: protobufFraming}
	defer c.close()
	s, err := c.open(context.Background(), call{method: defaultMethod})
	if err != nil {
		t.Fatal(err)
	}
	return (&callT{t: &trial{T: t}, stream: s}).anyEnd()
}

func TestMessageClient(t *testing.T) {
	const (
		ok       = `@{"@status":{"code":0,"status":"OK"}}`
		notFound = `@{"@status":{"code":5,"status":"NOT_FOUND","message":"no room"}}`
	)
	if r := bareAnswered(t, 1000, "", "one", "", ok); r.status.Code() != codes.OK || len(r.messages) != 2 {
		t.Errorf("read as %v, %s, %v", r.status, abridged(r.messages), r.err)
	}
	if r := bareAnswered(t, 4005, "NOT_FOUND: no room", "one", notFound); r.status.Code() != codes.NotFound || r.status.Message() != "no room" {
		t.Errorf("read as %v, %v", r.status, r.err)
	}
	for name, r := range map[string]result{
		"no status":                bareAnswered(t, 1000, "", "one"),
		"no close":                 bareAnswered(t, 0, "", ok),
		"a message after":          bareAnswered(t, 1000, "", ok, "one"),
		"another close code":       bareAnswered(t, 1000, "", notFound),
		"an error's code for OK":   bareAnswered(t, 4000, "", ok),
		"going away with its OK":   bareAnswered(t, 1001, "", ok),
		"another status's code":    bareAnswered(t, 4007, "NOT_FOUND: no room", notFound),
		"another text":             bareAnswered(t, 4005, "NOT_FOUND: room", notFound),
		"a text that is cut early": bareAnswered(t, 4005, "NOT_FOUND: no", notFound),
		"another name":             bareAnswered(t, 4005, "NOT_FOUND", `@{"@status":{"code":5,"status":"GONE"}}`),
		"a field more":             bareAnswered(t, 1000, "", `@{"@status":{"code":0,"status":"OK"},"x":1}`),
		"a message of text":        bareAnswered(t, 1000, "", "@one", ok),
	} {
		if r.status != nil {
			t.Errorf("%s: read as %v, want no status", name, r.status)
		}
	}
}
