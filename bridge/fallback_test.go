package bridge

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
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

// TestFallbackGetsMethodsThatTheBackendLacks: JSON and protobuf are a call if descriptors
// have the method, whatever the form of its path.
func TestFallbackGetsMethodsThatTheBackendLacks(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	to := webServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, echo), Descriptors: describedChat(t)}, FallbackURL: to}))
	for _, c := range []struct {
		path, contentType, version string
		code                       int
	}{
		{"/test.Service/Pure", "application/json", "", 200},
		{"/test.Service/Pure", "application/proto", "", 200},
		{"/test.lowly/Method", "application/json", "", 200},
		{"/test.Service/None", "application/json", "", http.StatusTeapot},
		{"/test.Other/Pure", "application/proto", "", http.StatusTeapot},
		{"/api/login", "application/json", "", http.StatusTeapot},
		{"/test.Service/None", "application/json", "1", 415},
		{"/test.Service/None", "application/proto", "1", 200}, // the backend knows best
		{"/test.Service/None", "text/plain", "", 415},
	} {
		r := newRequest(t, http.MethodPost, "http://"+address+c.path, "{}")
		r.Header.Set("Content-Type", c.contentType)
		if c.version != "" {
			r.Header.Set("Connect-Protocol-Version", c.version)
		}
		if res, body := send(t, http.DefaultClient, r); res.StatusCode != c.code {
			t.Errorf("%s %s %s: answered %d %q, want %d", c.path, c.contentType, c.version, res.StatusCode, body, c.code)
		}
	}
}

// TestFallbackLearnsMethods: culvert asks the backend at the first such request, which
// doesn't wait.
func TestFallbackLearnsMethods(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	to := webServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	address := serve(t, newServer(t, Config{Backend: Backend{Target: reflectingBackend(t)}, FallbackURL: to}))
	poll(t, func() string {
		r := newRequest(t, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/None", "{}")
		r.Header.Set("Content-Type", "application/json")
		if res, body := send(t, http.DefaultClient, r); res.StatusCode != http.StatusTeapot {
			return body
		}
		return ""
	})
	r := newRequest(t, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", "{}")
	r.Header.Set("Content-Type", "application/json")
	if res, body := send(t, http.DefaultClient, r); res.StatusCode != 200 {
		t.Errorf("a method that is there: answered %d %q", res.StatusCode, body)
	}
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
		{"POST /Greeter/Hello HTTP/1.1", "content-type: application/connect+json\r\ncontent-length: 0\r\n", 200},
		{"POST /Greeter/Hello HTTP/1.1", "content-type: application/json\r\nconnect-protocol-version: 1\r\ncontent-length: 0\r\n", 503},
		{"GET /Greeter/Hello?connect=v1&encoding=json&message={} HTTP/1.1", "", 503},
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
			{Name: "prefix", Match: report.Match{PathPrefix: "/team"}, Rewrite: "/", Backend: "a"},
			{Name: "pages", Match: report.Match{PathPrefix: "/pages", Transports: []string{"grpc-web"}}, Rewrite: "/", Backend: "a"},
			{Name: "all", Match: report.Match{Methods: []string{"*/*"}}, Backend: "a"},
		},
	}))
	for target, want := range map[string]int{
		"/": http.StatusTeapot, "/team": http.StatusTeapot, "/team/about": http.StatusTeapot, "/grpc/team/about": http.StatusTeapot, "/grpc/a/b": http.StatusTeapot, "/shop.v1.Orders/Get": http.StatusTeapot,
		"/grpc/pages/about": http.StatusTeapot, "/grpc/pages/a/b": http.StatusTeapot, "/grpc/docs/shop.v1.Orders/Get": http.StatusTeapot,
		"/grpc/team/shop.v1.Orders/Get": http.StatusUpgradeRequired, "/grpc/pages/shop.v1.Orders/Get": http.StatusUpgradeRequired, "/grpc/shop.v1.Orders/Get": http.StatusUpgradeRequired,
	} {
		if answers := exchange(t, address, "GET "+target+" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"); len(answers) != 1 || answers[0].StatusCode != want {
			t.Errorf("%s: answered %v, want %d", target, answers, want)
		}
	}
}
