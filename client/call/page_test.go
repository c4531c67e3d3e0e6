package call

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

const app = "https://app.example.com"

// corsAnswers answers a preflight with some fields, and the call with others.
func corsAnswers(t *testing.T, preflight, answer string) (url string, methods func() string) {
	var mu sync.Mutex
	var seen []string
	url = serveScript(t, func(r *http.Request, conn net.Conn, in *bufio.Reader) {
		for ; r != nil; r, _ = http.ReadRequest(in) {
			_, _ = io.Copy(io.Discard, r.Body) // the client may be gone
			mu.Lock()
			seen = append(seen, r.Method+" "+r.Header.Get("Origin"))
			mu.Unlock()
			text := "HTTP/1.1 200 OK\r\n" + preflight + "Content-Length: 0\r\n\r\n"
			if r.Method != http.MethodOptions {
				body := framed(0, "\x08\x01") + framed(0x80, "grpc-status: 0\r\n")
				text = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\nX-Meta: a\r\n%sContent-Length: %d\r\n\r\n%s", answer, len(body), body)
			}
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	})
	return url, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(seen, ", ")
	}
}

// TestPages: what a browser would decide, for each answer.
func TestPages(t *testing.T) {
	const (
		origin  = "Access-Control-Allow-Origin: " + app + "\r\n"
		anybody = "Access-Control-Allow-Origin: *\r\n"
		fields  = "Access-Control-Allow-Headers: Content-Type, x-grpc-web,X-User-Agent, authorization, x-user\r\n"
		cookies = "Access-Control-Allow-Credentials: true\r\n"
		both    = "POST " + app
	)
	for _, c := range []struct {
		name, preflight, answer string
		headers                 []string
		err, note               string // parts; "": none
	}{
		{"all is allowed", origin + fields, origin + "Access-Control-Expose-Headers: x-meta\r\n", []string{"authorization: a", "x-user: b"}, "", "may make this call"},
		{"any origin", anybody + "Access-Control-Allow-Headers: *\r\n", anybody + "Access-Control-Expose-Headers: *\r\n", []string{"x-user: b"}, "", "may make this call"},
		{"nothing", "", origin, nil, "the answer to the preflight has no access-control-allow-origin", ""},
		{"another origin", "Access-Control-Allow-Origin: https://other.example.com\r\n", origin, nil, "allows the origin https://other.example.com only", ""},
		{"two origins", origin + origin, origin, nil, "has access-control-allow-origin twice", ""},
		{"a header", origin + fields, origin, []string{"x-other: c"}, "doesn't allow the header x-other", ""},
		{"authorization isn't any header", anybody + "Access-Control-Allow-Headers: *\r\n", origin, []string{"authorization: a"}, "doesn't allow the header authorization", ""},
		{"any origin, with cookies", anybody + fields, origin, []string{"cookie: a=b"}, "doesn't count for a call with cookies", ""},
		{"no cookies", origin + fields, origin, []string{"cookie: a=b"}, "doesn't allow cookies", ""},
		{"cookies", origin + fields + cookies, origin + cookies, []string{"cookie: a=b"}, "", "may make this call"},
		{"an unreadable answer", origin + fields, "", nil, "", "can't read this answer: it has no access-control-allow-origin"},
		{"hidden metadata", origin + fields, origin, nil, "", "can't read these headers: x-meta"},
	} {
		url, methods := corsAnswers(t, c.preflight, c.answer)
		r := run(t, Config{URL: url, Via: viaGRPCWeb, Origin: app, Headers: c.headers, ProtoSets: []string{healthSet(t)}}, check)
		var no *forbidden
		switch {
		case c.err == "" && (r.err != nil || !strings.Contains(r.stderr, c.note) || !strings.Contains(methods(), both)):
			t.Errorf("%s: %v\n%s\n%s", c.name, r.err, r.stderr, methods())
		case c.err != "" && (!errors.As(r.err, &no) || !strings.Contains(r.err.Error(), c.err) || strings.Contains(methods(), both)):
			t.Errorf("%s: %v, want %q\n%s", c.name, r.err, c.err, methods())
		}
	}
}

// TestPagesOfTheSameOrigin need no preflight.
func TestPagesOfTheSameOrigin(t *testing.T) {
	url, methods := corsAnswers(t, "", "")
	r := run(t, Config{URL: url, Via: viaGRPCWeb, Origin: url, ProtoSets: []string{healthSet(t)}}, check)
	if r.err != nil || r.stderr != "" || methods() != "POST "+url {
		t.Errorf("%v\n%s\n%s", r.err, r.stderr, methods())
	}
}
