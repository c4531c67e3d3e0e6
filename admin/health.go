package admin

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// Health answers /livez and /readyz. The zero value is alive and not ready.
// Its methods may be called concurrently.
type Health struct {
	ready  atomic.Bool
	detail atomic.Pointer[func() []string]
}

// SetReady says whether new calls are taken.
func (h *Health) SetReady(ready bool) { h.ready.Store(ready) }

// SetDetail gives what tells of things that are wrong and don't keep calls from
// being taken: a certificate that could not be loaded again. /readyz has a line
// for each, below its answer.
func (h *Health) SetDetail(detail func() []string) { h.detail.Store(&detail) }

// Handler serves GET and HEAD of /livez, 200 as long as the process can answer
// at all, and of /readyz, 200 or 503.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "alive\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if h.ready.Load() {
			answer(w, http.StatusOK, "ready\n"+h.details())
			return
		}
		answer(w, http.StatusServiceUnavailable, "not ready: no new calls are taken\n"+h.details())
	})
	return mux
}

func (h *Health) details() string {
	detail := h.detail.Load()
	if detail == nil {
		return ""
	}
	var text strings.Builder
	for _, line := range (*detail)() {
		text.WriteString(strings.Map(visible, line) + "\n")
	}
	return text.String()
}

// visible is what a terminal is shown for r: a line may hold what a CA has
// answered, and who reads it is a person with curl.
func visible(r rune) rune {
	switch {
	case r == '\n':
		return ' '
	case unicode.IsPrint(r):
		return r
	}
	return unicode.ReplacementChar
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // whoever asked is gone: nobody to tell
}

// Server returns an http.Server for the handler with bounds on what a caller
// can hold: questions and answers are a line each.
func (h *Health) Server(log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
