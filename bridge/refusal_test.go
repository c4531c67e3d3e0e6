package bridge

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestRefusedRequestsCloseTheirConnection: what follows one on its connection
// is never served, since another hop may have read it as a part of it.
func TestRefusedRequestsCloseTheirConnection(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs, LoopbackOnly: true, Hosts: []string{"known.example"}, PathPrefix: "/grpc"})
	address := serve(t, s)
	const upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, c := range []struct {
		name, request string
		want          int
		header        string // that the answer has
		says          string
	}{
		{"CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n", 405, "Allow", ""},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", 405, "Allow", ""},
		{"an absolute target", "POST http://localhost/grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 400, "", ""},
		{"an absolute target of another host", "GET http://localhost/ HTTP/1.1\r\nhost: evil.example\r\n\r\n", 400, "", ""},
		{"a foreign Host", "GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n", 403, "", "hosts"},
		{"a foreign Host and Origin", "POST /grpc/a.B/C HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 403, "", "hosts"},
		{"a foreign Origin", "POST /grpc/a.B/C HTTP/1.1\r\nhost: known.example\r\norigin: https://evil.example\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 403, "Vary", "origin"},
		{"a foreign Origin's preflight", "OPTIONS /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\naccess-control-request-method: POST\r\n\r\n", 403, "Vary", "origin"},
		{"nothing here", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", 404, "", "/grpc/package.Service/Method"},
		{"without the prefix", "POST /a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 404, "", "/grpc/"},
		{"an escaped method", "POST /grpc/a.B/%43 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 404, "", ""},
		{"PUT of a method", "PUT /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", 405, "Allow", ""},
		{"another content type", "POST /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/xml\r\ncontent-length: 2\r\n\r\n{}", 415, "Accept-Post", ""},
		{"another content type of the family", "POST /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-webx\r\ncontent-length: 0\r\n\r\n", 415, "Accept-Post", ""},
		{"native over HTTP/1.1", "POST /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n", 505, "", "HTTP/2"},
		{"GET of a method", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\n\r\n", 426, "Upgrade", "Upgrade header"},
		{"a stripped upgrade", "GET / HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: h2ts\r\nsec-websocket-version: 13\r\n\r\n", 426, "Upgrade", "Upgrade header"},
		{"an unknown subprotocol", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: soap\r\n" + upgrade + "\r\n", 400, "", "h2ts"},
		{"no subprotocol", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\n" + upgrade + "\r\n", 400, "", "h2ts"},
		{"a socket for no method", "GET /x HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: grpc-websockets\r\n" + upgrade + "\r\n", 404, "", ""},
		{"a socket from a foreign Origin", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\nsec-websocket-protocol: grpc-websockets\r\n" + upgrade + "\r\n", 403, "", ""},
		{"a socket without a key", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: grpc-websockets\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n", 400, "", ""},
		{"a socket of another version", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: grpc-websockets\r\n" + strings.Replace(upgrade, "13", "8", 1) + "\r\n", 400, "", ""},
	} {
		answers := exchange(t, address, c.request+"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n")
		if len(answers) != 1 {
			t.Errorf("%s: %d answers, want one and the connection closed", c.name, len(answers))
			continue
		}
		got := answers[0]
		if got.Header.Get("Culvert-Reason") == "" {
			t.Errorf("%s: nothing shows that the answer is culvert's: %v", c.name, got.Header)
		}
		if got.StatusCode != c.want || !got.Close || c.header != "" && got.Header.Get(c.header) == "" {
			t.Errorf("%s: got %s, close %v, %v; want %d that closes, with %s", c.name, got.Status, got.Close, got.Header, c.want, c.header)
		}
		body, _ := io.ReadAll(got.Body) // it was read whole before
		if !strings.Contains(string(body), c.says) {
			t.Errorf("%s: the answer %q lacks %q", c.name, body, c.says)
		}
		if got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: a page may read the refusal", c.name)
		}
	}
	for len(obs.refused) > 0 {
		if r := <-obs.refused; r.Reason != report.ReasonOriginDenied || r.Key == "" {
			t.Errorf("the Observer is told of %+v", r)
		}
	}
}

// exchange writes bytes on one connection and reads the answers to its end.
func exchange(t testing.TB, address, request string) (answers []*http.Response) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	r := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: strings.Replace(method, "CONNECT", "GET", 1)})
		if err != nil {
			if rest, _ := io.ReadAll(r); len(rest) > 0 {
				t.Errorf("after %d answers comes %q", len(answers), rest)
			}
			return answers
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("the body of answer %d: %v", len(answers), err)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		answers = append(answers, res)
		if res.Close {
			if rest, _ := io.ReadAll(r); len(rest) > 0 { // also an error is the end
				t.Errorf("after the closing answer comes %q", rest)
			}
			return answers
		}
	}
}

// TestRefusalsAreLoggedNowAndThen: the Observer hears of each, a person of
// some, and of how many were left out.
func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		obs := newObserver()
		l := report.NewRefusals(slog.New(slog.NewTextHandler(&out, nil)), obs)
		for range 100 {
			l.Note(&report.Fault{Reason: report.ReasonOriginDenied, Key: "allow_origins", Detail: "https://evil.example", Hint: "to allow it: --allow-origin https://evil.example"}, "peer")
		}
		lines := strings.Count(out.String(), "\n")
		if lines == 0 || lines > 10 {
			t.Errorf("100 refusals at once are %d lines", lines)
		}
		for _, want := range []string{"reason=ORIGIN_DENIED", "key=allow_origins", "peer=peer", "https://evil.example", "--allow-origin"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the log %q lacks %q", out.String(), want)
			}
		}
		out.Reset()
		elapse(time.Minute)
		l.Note(&report.Fault{Reason: report.ReasonOriginDenied, Key: "allow_origins"}, "peer")
		if want := fmt.Sprintf("not_logged=%d\n", 100-lines); !strings.HasSuffix(out.String(), want) {
			t.Errorf("a minute later the log says %q, want %q at its end", out.String(), want)
		}
		if len(obs.refused) != 101 {
			t.Errorf("the Observer heard of %d of 101", len(obs.refused))
		}
	})
}

// TestHostileTextStaysOnItsLine of the log.
func TestHostileTextStaysOnItsLine(t *testing.T) {
	var out bytes.Buffer
	l := report.NewRefusals(slog.New(slog.NewTextHandler(&out, nil)), report.Discard())
	l.Note(&report.Fault{Reason: report.ReasonOriginDenied, Key: "hosts", Detail: "a\r\nlevel=INFO msg=\"all is well\"\x1b[2J", Hint: "h"}, "peer")
	if got := strings.Count(out.String(), "\n"); got != 1 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("the log has %d lines: %q", got, out.String())
	}
}

// TestRefusedUploadReadsWhy over the wire: the answer comes whole, though the
// body that nobody reads is still being sent.
func TestRefusedUploadReadsWhy(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere}))
	const size = 8 << 20
	for range 2 {
		var d net.Dialer
		conn, err := d.DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		head := "POST /a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/connect+xml\r\ncontent-length: 8388608\r\n\r\n"
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		var sending sync.WaitGroup
		sending.Go(func() { _, _ = conn.Write(make([]byte, size)) }) // as much as is taken
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 415 ") || !strings.HasSuffix(string(answer), "\n") {
			t.Errorf("read %q, %v; want all of a %d", answer, err, http.StatusUnsupportedMediaType)
		}
		_ = conn.Close() // ends the sending
		sending.Wait()
	}
}
