package admin

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// control returns the pages of a culvert for tests, and its level.
func control(t *testing.T) (*Control, *slog.LevelVar) {
	t.Helper()
	level := new(slog.LevelVar)
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d, _, _ := drainOf()
	return &Control{
		Drain: d, Data: testData(), Problems: func() []string { return nil },
		Log: slog.New(slog.DiscardHandler), Level: level, Version: "v1.2.3",
		Configuration: func() Configuration {
			return Configuration{
				Print:   func(w io.Writer) error { _, err := io.WriteString(w, "log: {level: info}\n"); return err },
				Version: "3", Since: at,
				Rejected: errors.New("proxy.yaml:1: bad\nproxy.yaml:2: w\x1b[2Jorse"), RejectedAt: at.Add(time.Hour),
			}
		},
	}, level
}

// ask makes one request of a program on this host. edit changes it.
func ask(t *testing.T, h http.Handler, method, path, body string, edit func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:9902"
	if method != http.MethodGet {
		r.Header.Set(Header, "1")
	}
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestControlPages(t *testing.T) {
	c, level := control(t)
	h := c.Handler()
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string // begins the answer
	}{
		{"GET", "/", "", 200, "culvert v1.2.3\n"},
		{"GET", "/config", "", 200, "# culvert v1.2.3, configuration 3, in effect since 2026-11-22T12:00:00Z\n" +
			"# culvert rejected a newer file at 2026-11-22T13:00:00Z:\n# proxy.yaml:1: bad\n# proxy.yaml:2: w\ufffd[2Jorse\nlog: {level: info}\n"},
		{"GET", "/log-level", "", 200, "info\n"},
		{"PUT", "/log-level", " debug\n", 200, "debug\n"},
		{"GET", "/log-level", "", 200, "debug\n"},
		{"PUT", "/log-level", "INFO+3", 400, "culvert: the body is no log level: send debug, info, warn or error\n"},
		{"PUT", "/log-level", strings.Repeat("debug", 1000), 400, "culvert: the body is no log level"},
		{"PUT", "/log-level", "", 400, "culvert: the body is no log level"},
		{"POST", "/log-level", "warn", 405, ""},
		{"POST", "/config", "", 405, ""},
		{"GET", "/debug/pprof/", "", 200, "culvert v1.2.3\n"},
		{"GET", "/debug/pprof/heap?debug=1", "", 200, "heap profile: "},
		{"GET", "/debug/pprof/cmdline", "", 404, ""},
		{"GET", "/none", "", 404, ""},
	} {
		w := ask(t, h, step.method, step.path, step.body, nil)
		if w.Code != step.status || !strings.HasPrefix(w.Body.String(), step.want) {
			t.Errorf("%s %s %.20q: got %d %q, want %d %q", step.method, step.path, step.body, w.Code, w.Body, step.status, step.want)
		}
	}
	if level.Level() != slog.LevelDebug {
		t.Errorf("the level is %v after a refused change, want DEBUG", level.Level())
	}
}

// TestAdminAddressIsForOperators: a page can have the browser send requests to
// loopback, and a name of its own can point there.
func TestAdminAddressIsForOperators(t *testing.T) {
	c, level := control(t)
	h := c.Handler()
	with := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for _, x := range []struct {
		about string
		edit  func(*http.Request)
		may   bool
	}{
		{"a program", nil, true},
		{"localhost", host("localhost:9902"), true},
		{"LOCALHOST without a port", host("LOCALHOST"), true},
		{"IPv6", host("[::1]:1"), true},
		{"a forwarded port", host("127.0.0.1:40000"), true},
		{"its own page", with("Sec-Fetch-Site", "same-origin"), true},
		{"its own page's origin", with("Origin", "http://127.0.0.1:9902"), true},
		{"an address bar", with("Sec-Fetch-Site", "none"), true},
		{"another site", with("Sec-Fetch-Site", "cross-site"), false},
		{"another port of localhost", with("Sec-Fetch-Site", "same-site"), false},
		{"another origin", with("Origin", "http://127.0.0.1:3000"), false},
		{"a sandboxed page", with("Origin", "null"), false},
		{"two origins", func(r *http.Request) { r.Header["Origin"] = []string{"http://127.0.0.1:9902", "null"} }, false},
		{"a name that rebinds", host("evil.example:9902"), false},
		{"a name below localhost", host("a.localhost:9902"), false},
		{"an address of another host", host("192.0.2.1:9902"), false},
		{"no host", host(""), false},
	} {
		for _, request := range []struct{ method, path, body string }{{"GET", "/", ""}, {"GET", "/config", ""}, {"GET", "/debug/pprof/heap", ""}, {"GET", "/none", ""}, {"PUT", "/log-level", "warn"}} {
			level.Set(slog.LevelInfo)
			w := ask(t, h, request.method, request.path, request.body, x.edit)
			if may := w.Code != http.StatusForbidden; may != x.may {
				t.Errorf("%s: %s %s answers %d", x.about, request.method, request.path, w.Code)
			}
			if changed := level.Level() != slog.LevelInfo; changed != (x.may && request.method == "PUT") {
				t.Errorf("%s: the level is %v", x.about, level.Level())
			}
		}
	}
	for _, method := range []string{"PUT", "POST", "DELETE", "OPTIONS", "PATCH"} { // OPTIONS: a preflight can't have it
		level.Set(slog.LevelInfo)
		w := ask(t, h, method, "/log-level", "warn", func(r *http.Request) { r.Header.Del(Header) })
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), Header) || level.Level() != slog.LevelInfo || w.Header().Get("Access-Control-Allow-Headers") != "" {
			t.Errorf("%s without the header: %d %q, level %v", method, w.Code, w.Body, level.Level())
		}
	}
}

// TestAdminRequestsAreBounded: requests beyond the bound are told so, and have
// their place back later.
func TestAdminRequestsAreBounded(t *testing.T) {
	hold := make(chan struct{})
	began := make(chan struct{})
	h := guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		began <- struct{}{}
		<-hold
	}), nil)
	var running sync.WaitGroup
	for range maxRequests {
		running.Go(func() { ask(t, h, "GET", "/", "", nil) })
		<-began
	}
	if w := ask(t, h, "GET", "/", "", nil); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "again") {
		t.Errorf("one more: %d %q", w.Code, w.Body)
	}
	close(hold)
	running.Wait()
	running.Go(func() { ask(t, h, "GET", "/", "", nil) })
	<-began
	running.Wait()
}

func TestAdminServerBounds(t *testing.T) {
	c, _ := control(t)
	s := c.Server()
	if s.ReadHeaderTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 || s.ReadTimeout != 0 {
		t.Errorf("bounds: %+v", s)
	}
	for _, seconds := range []string{"1000", "-1", "NaN", "x", "1e300"} {
		for _, profile := range []string{"profile", "trace", "heap"} {
			if w := ask(t, s.Handler, "GET", "/debug/pprof/"+profile+"?seconds="+seconds, "", nil); w.Code != http.StatusBadRequest {
				t.Errorf("a %s of %s s: %d", profile, seconds, w.Code)
			}
		}
	}
}

// FuzzOnLoopback: whatever a Host is written like, a browser that takes it for a name
// that a name server resolves gets no answer.
func FuzzOnLoopback(f *testing.F) {
	for _, host := range []string{"localhost:9902", "127.0.0.1", "[::1]:1", "::1", "[::ffff:127.0.0.1]", "127.0.0.1.evil.example", "localhost.evil.example:1", "evil.example", "0x7f.1", "[::1%25lo]:1", ""} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !onLoopback(host) {
			return
		}
		u, err := url.Parse("http://" + host + "/")
		if err != nil {
			return // no browser has such a page
		}
		if name := u.Hostname(); !strings.EqualFold(name, "localhost") {
			if ip := net.ParseIP(strings.SplitN(name, "%", 2)[0]); ip == nil || !ip.IsLoopback() {
				t.Errorf("%q is accepted, and names %q", host, name)
			}
		}
	})
}
