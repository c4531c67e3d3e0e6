package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestMetricsAreServedOnceThereAreSome: without them the answer names the key.
func TestMetricsAreServedOnceThereAreSome(t *testing.T) {
	h := new(Health)
	handler := h.Handler()
	ask := func(method string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/metrics", nil))
		return w
	}
	if w := ask(http.MethodGet); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "health.metrics") {
		t.Errorf("without metrics: %d %q", w.Code, w.Body)
	}
	h.SetMetrics(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a 1\n") }))
	if w := ask(http.MethodGet); w.Code != http.StatusOK || w.Body.String() != "a 1\n" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("with metrics: %d %q, %v", w.Code, w.Body, w.Header())
	}
	if w := ask(http.MethodPost); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestHealth(t *testing.T) {
	h := new(Health)
	handler := h.Handler()
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	for _, step := range []struct {
		ready        bool
		method, path string
		status       int
		body         string
	}{
		{false, http.MethodGet, "/livez", 200, "alive\n"},
		{false, http.MethodGet, "/readyz", 503, "not ready"},
		{true, http.MethodGet, "/readyz", 200, "ready\n"},
		{true, http.MethodHead, "/readyz", 200, "ready\n"}, // net/http drops the body
		{true, http.MethodGet, "/livez", 200, "alive\n"},
		{false, http.MethodGet, "/readyz", 503, "not ready"},
		{true, http.MethodPost, "/readyz", 405, "Method Not Allowed\n"},
		{true, http.MethodGet, "/", 404, "404 page not found\n"},
		{true, http.MethodGet, "/readyz/x", 404, "404 page not found\n"},
	} {
		h.SetReady(step.ready)
		w := ask(step.method, step.path)
		if w.Code != step.status || !strings.HasPrefix(w.Body.String(), step.body) {
			t.Errorf("%s %s while ready is %v: got %d %q, want %d %q", step.method, step.path, step.ready, w.Code, w.Body, step.status, step.body)
		}
	}
	h.SetReady(true)
	h.SetDetail(func() []string { return []string{"tls.cert: bad", "two\nlines", "a\x1b[2J\r\u009b\u202eé"} })
	if got := ask(http.MethodGet, "/readyz").Body.String(); got != "ready\ntls.cert: bad\ntwo lines\na\ufffd[2J\ufffd\ufffd\ufffdé\n" {
		t.Errorf("with details: %q", got)
	}
	if got := ask(http.MethodGet, "/livez").Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("an answer may be kept: %q", got)
	}
}

// TestHealthOnLoopbackChecksHost: a page can point a name of its own at
// loopback (DNS rebinding), and would be the same origin then.
func TestHealthOnLoopbackChecksHost(t *testing.T) {
	h := new(Health)
	h.SetReady(true)
	loopback := func(host string) bool { return host == "localhost:9901" }
	for _, c := range []struct {
		unforgeable func(string) bool
		host        string
		visible     bool
	}{
		{loopback, "localhost:9901", true},
		{loopback, "", true}, // HTTP/1.0: no browser speaks it
		{loopback, "evil.example:9901", false},
		{nil, "culvert.example:9901", true},
	} {
		server := h.Server(slog.New(slog.DiscardHandler), c.unforgeable)
		for _, path := range []string{"/livez", "/readyz", "/"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			r.Host = c.host
			w := httptest.NewRecorder()
			server.Handler.ServeHTTP(w, r)
			if visible := w.Code != http.StatusForbidden; visible != c.visible || !visible && !strings.Contains(w.Body.String(), "localhost") {
				t.Errorf("%s of %q: %d %q", path, c.host, w.Code, w.Body)
			}
		}
	}
}
