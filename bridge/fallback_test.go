package bridge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/routing"
)

// A webObserver also gets the requests to the web server.
type webObserver struct {
	*anObserver
	web chan report.WebInfo
}

func newWebObserver() *webObserver {
	return &webObserver{newObserver(), make(chan report.WebInfo, 4096)} // more than any test makes
}

func (o *webObserver) WebEnded(w *report.WebInfo) { o.web <- *w }

// webServer runs a web server and returns its URL.
func webServer(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	ws := httptest.NewUnstartedServer(h)
	ws.Config.ErrorLog = log.New(io.Discard, "", 0)
	ws.Start()
	t.Cleanup(ws.Close)
	return ws.URL
}

// rawWebServer answers each connection by hand.
func rawWebServer(t testing.TB, answer func(net.Conn)) string {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
			answer(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return "http://" + ln.Addr().String()
}

// clients are HTTP clients of each version.
func webClients(t testing.TB) map[string]*http.Client {
	t.Helper()
	clients := make(map[string]*http.Client)
	for name, set := range map[string]func(*http.Protocols, bool){"HTTP/1.1": (*http.Protocols).SetHTTP1, "HTTP/2": (*http.Protocols).SetUnencryptedHTTP2} {
		tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
		set(tr.Protocols, true)
		t.Cleanup(tr.CloseIdleConnections)
		clients[name] = &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return clients
}

// send sends a request and returns the answer with its body.
func send(t testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: the body: %v", r.Method, r.URL, err)
	}
	return res, string(body)
}

func newRequest(t testing.TB, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t, patience), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFallbackGetsWhatIsNoCall: the web server gets pages, and never a call or what a
// call has become on its way: its answer would hide the mistake.
func TestFallbackGetsWhatIsNoCall(t *testing.T) {
	const page = "host: localhost\r\nconnection: close\r\n"
	to := webServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	inPolicy := serve(t, newServer(t, Config{Backend: refusing, FallbackURL: to}))
	byHandler := serve(t, newServer(t, Config{Backend: refusing, Fallback: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTeapot)
	})}))
	cross := "origin: https://other.example\r\naccess-control-request-method: "
	for _, c := range []struct {
		line, fields string
		code         int // of culvert; 0: the fallback answers
	}{
		{"GET / HTTP/1.1", "", 0},
		{"GET /assets/app.js HTTP/1.1", "", 0},
		{"GET /github.com/culvert HTTP/1.1", "", 0}, // a page's path of two segments
		{"GET /v1.0/users HTTP/1.1", "", 0},
		{"POST /api/login HTTP/1.1", "content-type: application/json\r\ncontent-length: 0\r\n", 0},
		{"POST /v1.0/users HTTP/1.1", "content-type: application/json\r\ncontent-length: 0\r\n", 0},
		{"PUT /x HTTP/1.1", "content-type: text/plain\r\ncontent-length: 0\r\n", 0},
		{"HEAD / HTTP/1.1", "", 0},
		{"DELETE /a/b HTTP/1.1", "", 0},
		{"OPTIONS /api/login HTTP/1.1", "", 0},
		{"GET /?connect=v1 HTTP/1.1", "", 0},
		{"GET /chat HTTP/1.1", upgradeTo + "chat\r\n", 0},
		{"GET /hmr HTTP/1.1", strings.Split(upgradeTo, "sec-websocket-protocol")[0], 0},
		{"GET /chat HTTP/1.1", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 0},
		{"OPTIONS /api/login HTTP/1.1", cross + "POST\r\naccess-control-request-headers: content-type\r\n", 0},
		{"OPTIONS /a.B/C HTTP/1.1", cross + "PUT\r\n", 403}, // the path is a method's

		{"POST /a.B/C HTTP/1.1", "content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n", 503}, // a call, of a backend that is down
		{"POST /Greeter/Hello HTTP/1.1", "content-type: application/grpc-web\r\ncontent-length: 5\r\n", 503},
		{"POST /a.B/C HTTP/1.1", "content-type: application/grpc\r\ncontent-length: 0\r\n", 505},
		{"POST /index.html HTTP/1.1", "content-type: application/grpc-web\r\ncontent-length: 0\r\n", 404},
		{"GET /Greeter/Hello HTTP/1.1", "content-type: application/grpc\r\n", 426},
		{"PUT /Greeter/Hello HTTP/1.1", "content-type: application/GRPC+proto\r\ncontent-length: 0\r\n", 405},
		{"POST /Greeter/Hello HTTP/1.1", "content-type: text/plain\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n", 415},
		{"POST /Greeter/Hello HTTP/1.1", "content-type: application/grpcx\r\ncontent-length: 0\r\n", 415},
		{"POST /Greeter/Hello HTTP/1.1", "x-grpc-web: 1\r\ncontent-length: 0\r\n", 415},
		{"POST /Greeter/Hello HTTP/1.1", "content-type: application/connect+json\r\ncontent-length: 0\r\n", 415},
		{"POST /Greeter/Hello HTTP/1.1", "content-type: application/json\r\nconnect-protocol-version: 1\r\ncontent-length: 0\r\n", 415},
		{"GET /Greeter/Hello?connect=v1&encoding=json&message={} HTTP/1.1", "", 405},
		{"GET /Greeter/Hello HTTP/1.1", "sec-websocket-protocol: grpc-websockets\r\n", 426}, // its upgrade was removed
		{"GET / HTTP/1.1", "sec-websocket-protocol: h2ts\r\nsec-websocket-key: x\r\n", 426},
		{"GET /shop.v1.Orders/Watch HTTP/1.1", "", 426},
		{"GET /shop.v1.Orders/Watch HTTP/1.1", upgradeTo + "soap\r\n", 400},
		{"POST /shop.v1.Orders/Get HTTP/1.1", "content-type: text/plain\r\ncontent-length: 0\r\n", 415},
		{"TRACE / HTTP/1.1", "", 404},
		{"CONNECT localhost:22 HTTP/1.1", "", 405},
		{"OPTIONS * HTTP/1.1", "", 405},
		{"GET http://other.example/ HTTP/1.1", "", 400},
		{"OPTIONS /Greeter/Hello HTTP/1.1", cross + "POST\r\naccess-control-request-headers: content-type,x-grpc-web\r\n", 403},
		{"OPTIONS /shop.v1.Orders/Get HTTP/1.1", cross + "POST\r\naccess-control-request-headers: content-type\r\n", 403},
	} {
		for name, address := range map[string]string{"web server": inPolicy, "handler": byHandler} {
			request := c.line + "\r\n" + page + c.fields + "\r\n"
			if strings.Contains(c.fields, "Upgrade") {
				request = strings.Replace(strings.Replace(request, "connection: close\r\n", "", 1), "connection: Upgrade", "connection: close, Upgrade", 1)
			}
			if strings.Contains(c.fields, "content-length: 5") {
				request += "\x00\x00\x00\x00\x00"
			}
			answers := exchange(t, address, request)
			if len(answers) != 1 {
				t.Errorf("%s: %s: %d answers", name, c.line, len(answers))
				continue
			}
			got, byFallback := answers[0].StatusCode, answers[0].StatusCode == http.StatusTeapot
			if grpc := answers[0].Header.Get("Grpc-Status") + answers[0].Trailer.Get("Grpc-Status"); c.code == 503 && got == 200 || grpc != "" && c.code == 503 {
				got = 503
			}
			if byFallback != (c.code == 0) || c.code != 0 && got != c.code {
				body, _ := io.ReadAll(answers[0].Body) // it was read before
				t.Errorf("%s: %s %q: answered %d %.100q, want %d (0: the fallback's)", name, c.line, c.fields, got, body, c.code)
			}
		}
	}
}

// TestFallbackBesideRoutes: a route's prefix doesn't hide that a path is a method's.
func TestFallbackBesideRoutes(t *testing.T) {
	to := webServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	address := serve(t, newServer(t, Config{
		Backends: []NamedBackend{{Name: "a", Backend: refusing}}, FallbackURL: to, PathPrefix: "/grpc",
		Routes: []Route{
			{Name: "prefix", Match: routing.Match{PathPrefix: "/team"}, Rewrite: "/", Backend: "a"},
			{Name: "all", Match: routing.Match{Methods: []string{"*/*"}}, Backend: "a"},
		},
	}))
	for target, want := range map[string]int{
		"/": http.StatusTeapot, "/team": http.StatusTeapot, "/team/about": http.StatusTeapot, "/grpc/team/about": http.StatusTeapot, "/grpc/a/b": http.StatusTeapot, "/shop.v1.Orders/Get": http.StatusTeapot,
		"/grpc/team/shop.v1.Orders/Get": http.StatusNotFound, "/grpc/shop.v1.Orders/Get": http.StatusUpgradeRequired,
	} {
		if answers := exchange(t, address, "GET "+target+" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"); len(answers) != 1 || answers[0].StatusCode != want {
			t.Errorf("%s: answered %v, want %d", target, answers, want)
		}
	}
}

// TestWebServerGetsTheRequest as the client sent it, with what culvert vouches for.
func TestWebServerGetsTheRequest(t *testing.T) {
	type got struct {
		line, host, body, header string
	}
	seen := make(chan *http.Request, 1)
	bodies := make(chan string, 1)
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // shown below
		seen <- r
		bodies <- string(body)
		w.WriteHeader(http.StatusNoContent)
	})
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to, VouchedHeaders: []string{"x-user"}})
	address := serve(t, s)
	trusting := serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to, VouchedHeaders: []string{"x-user"}, TrustedProxies: prefixes(t, "127.0.0.0/8")}))
	for _, c := range []struct {
		name, request string
		trusted       bool
		line, host    string
		body          string
		want          map[string]string // "": absent
	}{
		{
			"a page", "GET /a%2Fb;c/../d?q=1;2&x=%zz HTTP/1.1\r\nhost: App.Example:8080\r\ncookie: session=1\r\nauthorization: Bearer x\r\norigin: https://a.example\r\nuser-agent: browser\r\n\r\n",
			false, "GET /a%2Fb;c/../d?q=1;2&x=%zz", "App.Example:8080", "",
			map[string]string{"Cookie": "session=1", "Authorization": "Bearer x", "Origin": "https://a.example", "User-Agent": "browser", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "App.Example:8080", "X-Real-Ip": "127.0.0.1", "Via": "1.1 culvert", "Accept-Encoding": ""},
		},
		{
			"a liar", "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.0.0.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: admin\r\nx-forwarded-port: 1\r\nforwarded: for=10.0.0.1\r\nx-real-ip: 10.0.0.1\r\nvia: 1.0 liar\r\n" +
				"x_forwarded_for: 10.0.0.1\r\nx_real.ip: 10.0.0.1\r\nx-user: root\r\nx_user: root\r\nx-forwarded-client-cert: root\r\nx-ssl-client-cert: root\r\nculvert-identity: root\r\nx-request-id: mine\r\n\r\n",
			false, "GET /", "a", "",
			map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "a", "X-Forwarded-Port": "", "Forwarded": "", "X-Real-Ip": "127.0.0.1", "Via": "1.1 culvert", "X_forwarded_for": "", "X_real.ip": "", "X-User": "", "X_user": "", "X-Forwarded-Client-Cert": "", "X-Ssl-Client-Cert": "", "Culvert-Identity": "", "X-Request-Id": "mine"},
		},
		{
			"a trusted proxy", "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.7\r\nx-forwarded-proto: https\r\nx-forwarded-host: app.example\r\nx-real-ip: 10.0.0.1\r\nx-user: alice\r\nx_user: root\r\nx-forwarded-port: 443\r\nx-forwarded-client-cert: root\r\n\r\n",
			true, "GET /", "a", "",
			map[string]string{"X-Forwarded-For": "198.51.100.7, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example", "X-Real-Ip": "198.51.100.7", "X-User": "alice", "X_user": "", "X-Forwarded-Port": "443", "X-Forwarded-Client-Cert": ""},
		},
		{
			"fields of one connection", "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for, X-Real-IP, x-request-id, via, x-hop, upgrade, http2-settings, te\r\nte: trailers\r\nx-hop: 1\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nproxy-authorization: x\r\nkeep-alive: 3\r\n\r\n",
			false, "GET /", "a", "",
			map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "Via": "1.1 culvert", "X-Hop": "", "Upgrade": "", "Connection": "", "Http2-Settings": "", "Proxy-Authorization": "", "Keep-Alive": "", "Te": "trailers"},
		},
		{
			"chunks with trailers", "POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-forwarded-for\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-forwarded-for: 10.0.0.1\r\n\r\n",
			false, "POST /up", "a", "abcde",
			map[string]string{"X-Forwarded-For": "127.0.0.1", "Trailer": ""},
		},
		{"a length", "PUT /up HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", false, "PUT /up", "a", "abc", map[string]string{"Content-Length": "3"}},
		{"an expectation", "PUT /up HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc", false, "PUT /up", "a", "abc", nil},
		{"HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", false, "GET /x", strings.TrimPrefix(to, "http://"), "", map[string]string{"X-Forwarded-For": "127.0.0.1"}},
		{"two slashes", "GET //evil.example/x?y HTTP/1.1\r\nhost: a\r\n\r\n", false, "GET //evil.example/x?y", "a", "", nil},
	} {
		at := address
		if c.trusted {
			at = trusting
		}
		head, rest, _ := strings.Cut(c.request, "\r\n\r\n")
		if !strings.Contains(head, "connection:") {
			head += "\r\nconnection: close"
		} else {
			head = strings.Replace(head, "connection: ", "connection: close, ", 1)
		}
		answers := exchange(t, at, head+"\r\n\r\n"+rest)
		answers = slices.DeleteFunc(answers, func(r *http.Response) bool { return r.StatusCode == http.StatusContinue })
		if len(answers) != 1 || answers[0].StatusCode != http.StatusNoContent {
			t.Errorf("%s: answered %v", c.name, answers)
			continue
		}
		r, body := await(t, c.name, seen), await(t, c.name, bodies)
		if g, want := (got{r.Method + " " + r.RequestURI, r.Host, body, ""}), (got{c.line, c.host, c.body, ""}); g != want {
			t.Errorf("%s: the web server got %q, want %q", c.name, g, want)
		}
		for name, want := range c.want {
			if have := strings.Join(r.Header[name], " | "); have != want {
				t.Errorf("%s: the web server got %s: %q, want %q", c.name, name, have, want)
			}
		}
		if id := r.Header.Get("X-Request-Id"); !saneID(id) || answers[0].Header.Get("X-Request-Id") != id {
			t.Errorf("%s: the id is %q for the web server and %q for the client", c.name, id, answers[0].Header.Get("X-Request-Id"))
		}
	}
}

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

// TestWebSocketOfTheWebServer passes in both directions, also what the client sends
// before it has the answer, and ends with the drain.
func TestWebSocketOfTheWebServer(t *testing.T) {
	left := make(chan error, 8) // more than the test opens
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = ws.CloseNow() }() // at the latest
		for {
			kind, message, err := ws.Read(r.Context())
			if err != nil {
				left <- err
				return
			}
			if err := ws.Write(r.Context(), kind, append([]byte(r.Host+" "), message...)); err != nil {
				left <- err
				return
			}
		}
	})
	o := newWebObserver()
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: o})
	address := serve(t, s)
	dial := func() *websocket.Conn {
		t.Helper()
		ws, res, err := websocket.Dial(within(t, patience), "ws://"+address+"/chat", &websocket.DialOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			t.Fatal(err)
		}
		if res.Header.Get("X-Request-Id") == "" || ws.Subprotocol() != "chat" || len(res.Header["Connection"]) != 1 {
			t.Errorf("the handshake is answered %v", res.Header)
		}
		return ws
	}
	ws := dial()
	for _, text := range []string{"hello", strings.Repeat("x", 30_000)} {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(within(t, patience)); err != nil || string(got) != address+" "+text {
			t.Fatalf("got %.50q, %v", got, err)
		}
	}
	if err := ws.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("the close: %v", err)
	}
	if err := await(t, "the close", left); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the web server saw %v", err)
	}
	if i := await(t, "the end", o.web); !i.WebSocket || i.Status != 101 || i.Reason != "" || i.BytesIn < 30_000 || i.BytesOut < 30_000 {
		t.Errorf("the log has %+v", i)
	}
	_, res, err := websocket.Dial(within(t, patience), "ws://"+address+"/refused", nil)
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("a refused handshake: %v, %v", res, err)
	}
	_ = await(t, "the refused one", o.web)

	ws = dial()
	defer func() { _ = ws.CloseNow() }() // at the latest
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if _, _, err := ws.Read(within(t, patience)); err == nil {
		t.Error("the WebSocket outlives the drain")
	}
	if i := await(t, "the drain", o.web); i.Reason != report.ReasonDraining || !i.WebSocket {
		t.Errorf("the log has %+v", i)
	}
	_ = await(t, "the drain", left)
}

// TestFirstFramesBehindTheUpgrade: what a client sends at once isn't lost.
func TestFirstFramesBehindTheUpgrade(t *testing.T) {
	to := rawWebServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\nfirst ")
		early := make([]byte, len("early"))
		_, _ = io.ReadFull(r, early) // the client sees it
		_, _ = c.Write(bytes.ToUpper(early))
	})
	address := serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to}))
	conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	_, _ = io.WriteString(conn, "GET /x HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket, h2c\r\n\r\nearly")
	got, err := io.ReadAll(conn)
	if text := string(got); err != nil || !strings.HasPrefix(text, "HTTP/1.1 101 ") || !strings.HasSuffix(text, "\r\n\r\nfirst EARLY") {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestWebLimits: requests over a limit, and those of a server that drains or is its own
// web server, are refused by culvert.
func TestWebLimits(t *testing.T) {
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	to := webServer(t, func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	})
	o := newWebObserver()
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: o, Limits: Limits{WebRequests: 3, Address: Quota{WebRequests: 2}, HeaderBytes: 8 << 10}})
	base := "http://" + serve(t, s)
	client := webClients(t)["HTTP/2"]
	answered := make(chan int, 8)
	begin := func() {
		go func() {
			res, err := client.Do(newRequest(t, http.MethodGet, base+"/", ""))
			if err != nil {
				answered <- 0
				return
			}
			_ = res.Body.Close()
			answered <- res.StatusCode
		}()
		await(t, "the web server", entered)
	}
	begin()
	begin()
	res, body := send(t, client, newRequest(t, http.MethodGet, base+"/", ""))
	if res.StatusCode != 429 || !strings.Contains(body, "limits.address.fallback_requests") || res.Header.Get("Retry-After") == "" {
		t.Errorf("over the address's limit: %d %q", res.StatusCode, body)
	}
	if i := await(t, "the refusal", o.web); i.Reason != report.ReasonLimitExceeded || i.Status != 429 {
		t.Errorf("the log has %+v", i)
	}
	leave <- struct{}{}
	leave <- struct{}{}
	if a, b := await(t, "an answer", answered), await(t, "an answer", answered); a != 200 || b != 200 {
		t.Errorf("the two were answered %d and %d", a, b)
	}
	r := newRequest(t, http.MethodGet, base+"/", "")
	r.Header.Set("Cookie", strings.Repeat("x", 8<<10))
	if res, body := send(t, client, r); res.StatusCode != 431 || !strings.Contains(body, "limits.header_bytes") {
		t.Errorf("a long header: %d %q", res.StatusCode, body)
	}
	close(leave)
}

// TestNothingIsSmuggledToTheWebServer: no bytes of one request reach it as another, nor
// does what follows a request whose end another hop may see elsewhere.
func TestNothingIsSmuggledToTheWebServer(t *testing.T) {
	paths := make(chan string, 64) // more than the test sends
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // whatever it is
		paths <- r.URL.Path
		if r.URL.Path == "/early" {
			w.Header().Set("Connection", "close")
		}
	})
	address := serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to}))
	const next = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
	for _, c := range []struct{ name, request, seen string }{
		{"a length and chunks", "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + next, "/x"},
		{"chunks", "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + next, "/x"},
		{"chunks twice", "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n" + next, ""},
		{"chunks in a strange spelling", "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + next, ""},
		{"a space before the colon", "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\n0\r\n\r\n" + next, ""},
		{"two lengths", "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 44\r\n\r\n" + next, ""},
		{"HTTP/1.0", "GET /x HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n" + next, "/x"},
		{"HTTP/1.0 with chunks", "POST /x HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + next, "/x"},
		{"a refused upgrade", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 777\r\n\r\n" + next, "/x"},
		{"an upgrade with a body", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\ncontent-length: " + strconv.Itoa(len(next)) + "\r\n\r\n" + next, ""},
		{"an upgrade to HTTP/2", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n" + next, "/x"},
		{"a body of a GET", "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: " + strconv.Itoa(len(next)) + "\r\n\r\n" + next, "/x"},
		{"a line end in the target", "GET /x\rGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", ""},
		{"a malformed chunk", "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" + next, "/x at most"},
	} {
		conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		_, _ = io.WriteString(conn, c.request)
		if text, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: culvert leaves the connection open behind %q", c.name, text)
		}
		_ = conn.Close()
		var seen []string
		for len(paths) > 0 {
			seen = append(seen, <-paths)
		}
		if got := strings.Join(seen, " "); got != c.seen && (got != "" && got != "/x" || c.seen != "/x at most") {
			t.Errorf("%s: the web server got %q, want %q", c.name, got, c.seen)
		}
	}
}

// TestSlowClientsOfTheWebServer are cut in both directions.
func TestSlowClientsOfTheWebServer(t *testing.T) {
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/upload":
			_, _ = io.Copy(io.Discard, r.Body) // it is cut
		default:
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}
	})
	for version, client := range webClients(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			o := newWebObserver()
			base := "http://" + serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: o, Limits: Limits{SlowConsumerTimeout: time.Second, SlowSenderTimeout: time.Second}}))
			res, err := client.Do(newRequest(t, http.MethodGet, base+"/download", ""))
			if err != nil {
				t.Fatal(err)
			}
			if i := await(t, "the download", o.web); i.Reason != report.ReasonSlowConsumer {
				t.Errorf("the download: %+v", i)
			}
			if n, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Errorf("the download of %d bytes looks whole", n)
			}
			_ = res.Body.Close()

			body, stop := io.Pipe()
			r, err := http.NewRequestWithContext(within(t, patience), http.MethodPost, base+"/upload", body)
			if err != nil {
				t.Fatal(err)
			}
			if res, err := client.Do(r); err != nil || res.StatusCode != http.StatusRequestTimeout {
				t.Errorf("the upload: %v, %v", res, err)
			} else {
				_ = res.Body.Close()
			}
			if i := await(t, "the upload", o.web); i.Reason != report.ReasonSlowSender || i.Status != http.StatusRequestTimeout {
				t.Errorf("the upload: %+v", i)
			}
			_ = stop.Close()
		})
	}
}

// TestClientsOfTheWebServerLeave: its request ends, and nobody is blamed.
func TestClientsOfTheWebServerLeave(t *testing.T) {
	entered, left := make(chan struct{}, 1), make(chan struct{}, 1)
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
		}
		entered <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	})
	o := newWebObserver()
	base := "http://" + serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: o}))
	for version, client := range webClients(t) {
		for _, path := range []string{"/events", "/page"} {
			ctx, leave := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := client.Do(newRequest(t, http.MethodGet, base+path, "").WithContext(ctx)); err == nil {
					_, _ = io.Copy(io.Discard, res.Body) // until it is left
					_ = res.Body.Close()
				}
			}()
			await(t, "the request", entered)
			leave()
			await(t, "its end", left)
			await(t, "the client", done)
			if i := await(t, "the log", o.web); i.Reason != report.ReasonClientGone || i.Origin != report.OriginClient {
				t.Errorf("%s %s: the log has %+v", version, path, i)
			}
		}
	}
}

// TestWebRequestsHoldMemory, which the account counts, and end when others need it.
func TestWebRequestsHoldMemory(t *testing.T) {
	entered := make(chan struct{}, 8)
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or net/http doesn't notice that culvert leaves
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
		}
		entered <- struct{}{}
		<-r.Context().Done()
	})
	o := newWebObserver()
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: o, Memory: 64 << 20})
	base := "http://" + serve(t, s)
	for version, client := range webClients(t) {
		answered := make(chan int, 2) // one for each request
		begun := make(chan struct{}, 1)
		begin := func(path string) {
			res, err := client.Do(newRequest(t, http.MethodPost, base+path, "abc"))
			if err != nil {
				answered <- 0
				return
			}
			if path == "/events" {
				begun <- struct{}{}
			}
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if err != nil {
				res.StatusCode = -res.StatusCode // it broke off
			}
			answered <- res.StatusCode
		}
		go begin("/events")
		go begin("/page")
		await(t, "a request", entered)
		await(t, "a request", entered)
		await(t, "the events", begun)
		if held := s.account.Held(); held < 2*webBytes {
			t.Errorf("%s: %d bytes are held for two requests, want at least %d", version, held, 2*webBytes)
		}
		s.registry.mu.Lock()
		running := slices.Collect(maps.Keys(s.registry.calls))
		s.registry.mu.Unlock()
		for _, r := range running {
			r.Evict()
		}
		got := []int{await(t, "an answer", answered), await(t, "an answer", answered)}
		slices.Sort(got)
		if !slices.Equal(got, []int{-http.StatusOK, http.StatusServiceUnavailable}) {
			t.Errorf("%s: the clients got %v, want a broken answer and a refusal", version, got)
		}
		for range 2 {
			if i := await(t, "the log", o.web); i.Reason != report.ReasonLimitExceeded || i.Origin != report.OriginCulvert {
				t.Errorf("%s: the log has %+v", version, i)
			}
		}
	}
}

// TestWebServerChanges while requests run: each ends where it began.
func TestWebServerChanges(t *testing.T) {
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	first := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-leave
		}
		_, _ = io.WriteString(w, "first") // the client checks
	})
	second := webServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "second") })
	s := newServer(t, Config{Backend: nowhere, FallbackURL: first})
	base := "http://" + serve(t, s)
	client := webClients(t)["HTTP/1.1"]
	slow := make(chan string, 1)
	go func() {
		res, err := client.Do(newRequest(t, http.MethodGet, base+"/slow", ""))
		if err != nil {
			slow <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body) // compared below
		slow <- string(body)
	}()
	await(t, "the slow request", entered)
	for _, c := range []struct{ to, want string }{{second, "second"}, {"", "culvert: "}, {first, "first"}} {
		if err := s.Apply(Config{Backend: nowhere, FallbackURL: c.to}); err != nil {
			t.Fatal(err)
		}
		if _, body := send(t, client, newRequest(t, http.MethodGet, base+"/", "")); !strings.HasPrefix(body, c.want) {
			t.Errorf("got %q, want %q", body, c.want)
		}
	}
	if err := s.Apply(Config{Backend: nowhere, FallbackURL: "ftp://localhost"}); err == nil {
		t.Error("a web server of another protocol is accepted")
	}
	close(leave)
	if got := await(t, "the slow answer", slow); got != "first" {
		t.Errorf("the slow request got %q", got)
	}
}
