package bridge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestClientGetsTheAnswer of the web server, over each version of HTTP.
func TestClientGetsTheAnswer(t *testing.T) {
	released := make(chan struct{})
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/ranged":
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("0123456789"))
		case "/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/trailers":
			h.Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body") // the client checks
			h.Set("X-Sum", "5")
			h.Set(http.TrailerPrefix+"X-Late", "1")
		case "/hints":
			h.Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "body")
		case "/events":
			h.Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-released // the client has read the first
			_, _ = io.WriteString(w, "data: 2\n\n")
		case "/cors":
			h.Set("Access-Control-Allow-Origin", "https://other.example")
			h.Set("Set-Cookie", "a=b")
			h["Strict-Transport-Security"] = []string{"max-age=1"}
			h.Set("Connection", "x-hop")
			h.Set("X-Hop", "1")
			_, _ = io.WriteString(w, "body")
		case "/early": // before it has read the request
			h.Set("Connection", "close")
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, r.Method)
		}
	})
	base := "http://" + serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to}))
	for name, client := range webClients(t) {
		r := newRequest(t, http.MethodGet, base+"/ranged", "")
		r.Header.Set("Range", "bytes=2-4")
		if res, body := send(t, client, r); res.StatusCode != http.StatusPartialContent || body != "234" || res.ContentLength != 3 {
			t.Errorf("%s: a range: %d %q", name, res.StatusCode, body)
		}
		if res, body := send(t, client, newRequest(t, http.MethodHead, base+"/ranged", "")); res.StatusCode != 200 || body != "" || res.ContentLength != 10 {
			t.Errorf("%s: HEAD: %d %q, length %d", name, res.StatusCode, body, res.ContentLength)
		}
		if res, _ := send(t, client, newRequest(t, http.MethodGet, base+"/moved", "")); res.StatusCode != http.StatusFound || res.Header.Get("Location") != "/elsewhere" {
			t.Errorf("%s: a redirect: %d to %q", name, res.StatusCode, res.Header.Get("Location"))
		}
		res, body := send(t, client, newRequest(t, http.MethodGet, base+"/trailers", ""))
		if body != "body" || res.Trailer.Get("X-Sum") != "5" || res.Trailer.Get("X-Late") != "1" {
			t.Errorf("%s: trailers: %q %v", name, body, res.Trailer)
		}
		hints := 0
		ctx := httptrace.WithClientTrace(within(t, patience), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") != "" {
				hints++
			}
			return nil
		}})
		res, body = send(t, client, newRequest(t, http.MethodGet, base+"/hints", "").WithContext(ctx))
		if hints != 1 || res.StatusCode != 200 || body != "body" || len(res.Header["X-Request-Id"]) != 1 {
			t.Errorf("%s: early hints: %d times, then %d %q %v", name, hints, res.StatusCode, body, res.Header)
		}
		res, body = send(t, client, newRequest(t, http.MethodGet, base+"/cors", ""))
		if h := res.Header; body != "body" || h.Get("Access-Control-Allow-Origin") != "https://other.example" || h.Get("Set-Cookie") != "a=b" || h.Get("Strict-Transport-Security") == "" || h.Get("X-Hop") != "" {
			t.Errorf("%s: the header is %v", name, h)
		}
		if res, body := send(t, client, newRequest(t, http.MethodPost, base+"/none", "abc")); res.StatusCode != http.StatusNotFound || body != "POST" {
			t.Errorf("%s: POST: %d %q", name, res.StatusCode, body)
		}

		res, err := client.Do(newRequest(t, http.MethodGet, base+"/events", ""))
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len("data: 1\n\n"))
		if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "data: 1\n\n" {
			t.Errorf("%s: the first event: %q, %v", name, first, err)
		}
		released <- struct{}{}
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "data: 2\n\n" {
			t.Errorf("%s: the second event: %q, %v", name, rest, err)
		}
		_ = res.Body.Close()

		body1, stop := io.Pipe()
		up, err := http.NewRequestWithContext(within(t, patience), http.MethodPost, base+"/early", body1)
		if err != nil {
			t.Fatal(err)
		}
		if res, err = client.Do(up); err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: an answer before the request's end: %v, %v", name, res, err)
		} else {
			_ = res.Body.Close()
		}
		_ = stop.Close()
	}
}

// TestWebServerFails: culvert answers with a page of its own that shows no inside, or
// breaks off an answer that has begun.
func TestWebServerFails(t *testing.T) {
	reply := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c)) // or there is none
			_, _ = io.WriteString(c, text)
		}
	}
	closed := listen(t, "127.0.0.1:0")
	_ = closed.Close()
	for _, c := range []struct {
		name, to string
		answer   func(net.Conn)
		code     int // 0: the answer breaks off
		reason   report.Reason
	}{
		{"nobody listens", "http://" + closed.Addr().String(), nil, 502, report.ReasonUpstreamUnreachable},
		{"no such name", "http://web.invalid", nil, 502, report.ReasonUpstreamUnreachable},
		{"no such socket", "unix:" + filepath.Join(t.TempDir(), "none.sock"), nil, 502, report.ReasonUpstreamUnreachable},
		{"it isn't TLS", "https", reply("HTTP/1.1 400 Bad Request\r\n\r\n"), 502, report.ReasonUpstreamUnreachable},
		{"it hangs up", "", reply(""), 502, report.ReasonUpstreamReset},
		{"it isn't HTTP", "", reply("SSH-2.0-OpenSSH_9.2\r\n"), 502, report.ReasonUpstreamReset},
		{"a header without end", "", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "x-%d: %s\r\n", i, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}, 502, report.ReasonUpstreamReset},
		{"informational answers without end", "", func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nlink: </"+strings.Repeat("x", 1000)+">\r\n\r\n"); err != nil {
					return
				}
			}
		}, 502, report.ReasonUpstreamReset},
		{"a switch that nobody asked for", "", reply("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"), 502, report.ReasonUpstreamReset},
		{"a switch without a protocol", "", reply("HTTP/1.1 101 Switching Protocols\r\n\r\n"), 502, report.ReasonUpstreamReset},
		{"two lengths", "", reply("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"), 502, report.ReasonUpstreamReset},
		{"half a body", "", reply("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"), 0, report.ReasonUpstreamReset},
		{"half of the chunks", "", reply("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"), 0, report.ReasonUpstreamReset},
	} {
		to := c.to
		if c.answer != nil {
			raw := rawWebServer(t, c.answer)
			if to = raw; c.to == "https" {
				to = "https" + strings.TrimPrefix(raw, "http")
			}
		}
		o := newWebObserver()
		base := "http://" + serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: o}))
		for version, client := range webClients(t) {
			res, err := client.Do(newRequest(t, http.MethodGet, base+"/page?token=secret", ""))
			if err == nil {
				var body []byte
				body, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
				switch text := string(body); {
				case c.code == 0:
				case res.StatusCode != c.code || !strings.HasPrefix(text, "culvert: the web server") || !strings.Contains(text, res.Header.Get("X-Request-Id")) || !saneID(res.Header.Get("X-Request-Id")):
					t.Errorf("%s, %s: answered %d %q %v, want %d", c.name, version, res.StatusCode, text, res.Header, c.code)
				case strings.Contains(text, "127.0.0.1") || strings.Contains(text, "invalid") || strings.Contains(text, "/none.sock"):
					t.Errorf("%s, %s: the page shows the inside: %q", c.name, version, text)
				}
			}
			if (err != nil) != (c.code == 0) {
				t.Errorf("%s, %s: the error is %v", c.name, version, err)
			}
			info := await(t, c.name, o.web)
			if info.Reason != c.reason || info.Origin != report.OriginCulvert || info.Cause == "" || info.Request != "GET /page" || c.code != 0 && info.Status != c.code {
				t.Errorf("%s, %s: the log has %+v, want the reason %s", c.name, version, info, c.reason)
			}
		}
	}
}
