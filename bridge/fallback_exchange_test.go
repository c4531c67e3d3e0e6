package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

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
		if held := s.account.Held(); held < 2*fallbackBytes {
			t.Errorf("%s: %d bytes are held for two requests, want at least %d", version, held, 2*fallbackBytes)
		}
		s.registry.mu.Lock()
		running := slices.Clone(s.registry.calls)
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

// TestRefusedWebRequestTellsWhenToTryAgain: a request that comes after the refusal of new
// ones has begun gets Retry-After, as calls get RetryInfo.
func TestRefusedWebRequestTellsWhenToTryAgain(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, FallbackURL: webServer(t, func(http.ResponseWriter, *http.Request) {})})
	base := "http://" + serve(t, s)
	s.refusing.Store(true)
	for version, client := range webClients(t) {
		res, body := send(t, client, newRequest(t, http.MethodGet, base+"/", ""))
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %q with Retry-After %q, want 503 and when to try again", version, res.StatusCode, body, res.Header.Get("Retry-After"))
		}
	}
}
