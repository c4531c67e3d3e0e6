package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

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
		{false, http.MethodGet, "/readyz", 503, "not ready: no new calls are taken\n"},
		{true, http.MethodGet, "/readyz", 200, "ready\n"},
		{true, http.MethodHead, "/readyz", 200, "ready\n"}, // net/http drops the body
		{true, http.MethodGet, "/livez", 200, "alive\n"},
		{false, http.MethodGet, "/readyz", 503, "not ready: no new calls are taken\n"},
		{true, http.MethodPost, "/readyz", 405, "Method Not Allowed\n"},
		{true, http.MethodGet, "/", 404, "404 page not found\n"},
		{true, http.MethodGet, "/readyz/x", 404, "404 page not found\n"},
	} {
		h.SetReady(step.ready)
		w := ask(step.method, step.path)
		if w.Code != step.status || w.Body.String() != step.body {
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
