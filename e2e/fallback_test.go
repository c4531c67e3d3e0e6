package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestOneOrigin: a page that the web server serves through culvert makes calls by
// gRPC-Web and over WebSockets, without CORS: no origin is allowed.
func TestOneOrigin(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--fallback", servePage(t, bundlePage(t))}})
	var jobs []job
	of := map[string]scenario{}
	for _, client := range clients {
		if client.platform() != "chromium" || client.way() != "" {
			continue
		}
		for _, s := range scenarios {
			if s.name != "unary" && s.name != "server stream" && s.name != "bidi, each request after a reply" || limited(client.name, s) != nil {
				continue
			}
			j := s.job(t, client.name)
			j.Address, j.Page = "http://"+c.address, "http://"+c.address
			jobs, of[j.ID] = append(jobs, j), s
		}
	}
	r := startNode(t, "chromium", "chromium.js", jobs)
	for range jobs {
		select {
		case o, ok := <-r.seen:
			if !ok {
				t.Fatalf("the page ended early: %v", r.err)
			}
			if v := of[o.ID].judge(t, o, b); len(v.problems) > 0 {
				t.Errorf("%s: %s\nseen by the page: %+v", of[o.ID].name, strings.Join(v.problems, "\n"), o)
			}
		case <-time.After(patience):
			t.Fatal("the page has not ended its calls")
		}
	}
	if len(jobs) < 6 {
		t.Errorf("the page made %d calls, want several of each client", len(jobs))
	}
	c.logged(t, "web request", "request") // the page's
}

// A webServer notes the requests that it gets.
type webServer struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
}

func startWebServer(t *testing.T) *webServer {
	t.Helper()
	s := &webServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.Path)
		s.mu.Unlock()
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n") // to a client that may be gone
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/flood":
			for piece := make([]byte, 64<<10); ; {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		case "/socket":
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				return // the bytes were no handshake
			}
			defer func() { _ = ws.CloseNow() }() // at the latest
			for {
				kind, message, err := ws.Read(r.Context())
				if err != nil || ws.Write(r.Context(), kind, message) != nil {
					return
				}
			}
		default:
			_, _ = io.Copy(io.Discard, r.Body) // whatever it is
			_, _ = io.WriteString(w, "page")   // to a client that may be gone
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Hostile bytes before a web server cost their sender its connection, too. None of them
// reaches the web server as a call, and at the end nothing of them is left in culvert.
func TestHostileBytesBeforeAWebServer(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	web := startWebServer(t)
	o := culvertOptions{config: "limits: {message_bytes: 1MiB}\n", args: []string{"--fallback", web.URL, "--log-level", "debug"}}
	rested := startCulvert(t, b.address, o)
	warm(t, rested)
	c := startCulvert(t, b.address, o)
	warm(t, c)
	descriptors := c.descriptors(t)

	t.Run("cases", func(t *testing.T) { // ends when all of them have
		for _, f := range hostileFamilies {
			for _, h := range f.table {
				if f.inTunnel || f.begin != nil && f.after == wire.WebSocket {
					continue // only calls come through these
				}
				t.Run(f.name+"/"+strings.ReplaceAll(h.name, " ", "_"), func(t *testing.T) {
					t.Parallel()
					hostileExchange(t, c.address, f, h)
				})
			}
		}
	})
	if err := works(t, wire.Web, c.address, hostileTime); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if body := get(t, c.address, "/next"); body != "page" {
		t.Errorf("the next page is %q", body)
	}
	b.idle(t, cutIsSeen)
	if err := eventually(patience, func() error { return sameDescriptors(t, c, descriptors) }); err != nil {
		t.Error(err)
	}
	for _, line := range c.output.all() { // net/http catches what panics
		if strings.Contains(line, "panic") || strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("culvert's log: %s", line)
		}
	}
	web.mu.Lock()
	defer web.mu.Unlock()
	for _, path := range web.paths {
		if strings.HasPrefix(path, wire.Unary[:strings.LastIndex(wire.Unary, "/")]) {
			t.Errorf("a call reached the web server: %s", path)
		}
	}
	if !t.Failed() {
		wantGoroutines(t, c, rested.goroutines(t))
	}
}

// hostileExchange sends the bytes of one case, and reads until something is answered or
// the connection ends.
func hostileExchange(t *testing.T, address string, f hostileFamily, h hostileCase) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()               // read as far as it matters
	_ = conn.SetDeadline(time.Now().Add(hostileTime)) // just opened
	if f.begin != nil {
		if err := f.begin(conn); err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan struct{})
	go func() { // ends with the connection
		defer close(sent)
		if _, err := conn.Write([]byte(h.send + f.end)); err == nil && h.fin {
			_ = conn.(*net.TCPConn).CloseWrite() // the answer shows what came of it
		}
	}()
	_, _ = bufio.NewReader(conn).ReadByte() // or it is closed
	_ = conn.Close()
	<-sent
}

func get(t *testing.T, address, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestDrainOfWebRequests: what the web server hasn't ended ends with the drain, also
// under clients that read nothing, and culvert ends in time.
func TestDrainOfWebRequests(t *testing.T) {
	t.Parallel()
	b, web := startBackend(t, backendOptions{}), startWebServer(t)
	c := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 1s\n", args: []string{"--fallback", web.URL}})
	ws, _, err := websocket.Dial(t.Context(), "ws://"+c.address+"/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }() // at the latest
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := ws.Read(t.Context()); err != nil || string(text) != "hello" {
		t.Fatalf("got %q, %v", text, err)
	}
	paused := func(request string) {
		t.Helper()
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // it stays until then
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	paused("GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
	paused("GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	events, err := http.Get("http://" + c.address + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	began := time.Now()
	c.signal(t, syscall.SIGTERM)
	if text, err := io.ReadAll(events.Body); string(text) != "data: 1\n\n" || err == nil {
		t.Errorf("the stream of events ended with %q, %v: half of it looks whole", text, err)
	}
	if _, _, err := ws.Read(t.Context()); err == nil || errors.Is(err, t.Context().Err()) {
		t.Errorf("the WebSocket: %v", err)
	}
	if code := c.wait(t, patience); code != 0 {
		t.Errorf("culvert ended with %d", code)
	}
	if took := time.Since(began); took >= 6*time.Second { // for a busy machine; 5 s for a goodbye that nobody answers would show
		t.Errorf("culvert took %v to end", took)
	}
	lines := 0
	for _, line := range c.output.all() {
		if strings.Contains(line, `"web request"`) && strings.Contains(line, "DRAINING") {
			lines++
		}
	}
	if lines != 4 {
		t.Errorf("%d requests ended with the drain, want 4:\n%s", lines, strings.Join(c.output.all(), "\n"))
	}
}

// TestWebServerBySocket: the web server may listen on a unix socket.
func TestWebServerBySocket(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	socket := t.TempDir() + "/web.sock"
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	web := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Host, r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-For")) // the client checks
	})}}
	web.Start()
	defer web.Close()
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--fallback", "unix:" + socket}})
	if got, want := get(t, c.address, "/"), c.address+" http 127.0.0.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWebServerBehindTLS: a page over HTTP/2 and a WebSocket pass over TLS of culvert's,
// and the web server may have TLS, too, which culvert verifies.
func TestWebServerBehindTLS(t *testing.T) {
	t.Parallel()
	ca, b, web := newIssuer(t, "ca"), startBackend(t, backendOptions{}), startWebServer(t)
	c := startTLS(t, ca, b.address, "hosts: [culvert.example]\n", "--fallback", web.URL)
	transport := &http.Transport{TLSClientConfig: ca.trusting(), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	res, err := client.Get("https://" + c.address + "/page")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if _ = res.Body.Close(); err != nil || string(body) != "page" || res.ProtoMajor != 2 {
		t.Errorf("the page over %s: %q, %v", res.Proto, body, err)
	}
	one := &http.Transport{TLSClientConfig: ca.trusting()}
	ws, _, err := websocket.Dial(t.Context(), "wss://"+c.address+"/socket", &websocket.DialOptions{HTTPClient: &http.Client{Transport: one}})
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := ws.Read(t.Context()); err != nil || string(text) != "hello" {
		t.Errorf("the WebSocket: %q, %v", text, err)
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("the close: %v", err)
	}

	secure := httptest.NewTLSServer(http.NotFoundHandler()) // with a certificate that nobody trusts
	defer secure.Close()
	refused := startCulvert(t, b.address, culvertOptions{args: []string{"--fallback", secure.URL}})
	if got := get(t, refused.address, "/"); !strings.Contains(got, "the web server can't be reached") {
		t.Errorf("an untrusted certificate: %q", got)
	}
	if line := refused.logged(t, "web request", "cause"); !strings.Contains(fmt.Sprint(line["cause"]), "x509") {
		t.Errorf("the log has %v", line)
	}
}
