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

// Health answers /livez, /readyz, /metrics and calls of grpc.health.v1. The zero value
// is alive and not ready, and has no metrics and no backends.
// Its methods may be called concurrently.
type Health struct {
	ready    atomic.Bool
	detail   atomic.Pointer[func() []string]
	backends atomic.Pointer[func() []Backend]

	metrics atomic.Pointer[http.Handler]
	watches watches
}

// A Backend is the state of a backend.
type Backend struct {
	Name   string
	Usable bool   // it can take calls
	Needed bool   // culvert isn't ready without it
	Cause  string // why it isn't usable; "" if unknown
}

// SetReady sets whether culvert accepts new calls.
func (h *Health) SetReady(ready bool) {
	h.ready.Store(ready)
	h.watches.wake()
}

// SetBackends sets the function that returns the state of the backends.
func (h *Health) SetBackends(backends func() []Backend) { h.backends.Store(&backends) }

func (h *Health) list() []Backend {
	if backends := h.backends.Load(); backends != nil {
		return (*backends)()
	}
	return nil
}

// missing returns a line for each backend that is needed and not usable.
func missing(backends []Backend) []string {
	var lines []string
	for _, b := range backends {
		if b.Usable || !b.Needed {
			continue
		}
		line := "backend " + b.Name + ": no connection takes calls"
		if b.Cause != "" {
			line += ": " + b.Cause
		}
		lines = append(lines, line)
	}
	return lines
}

// SetDetail sets the function that returns problems that don't keep culvert from
// accepting calls, such as a certificate that could not be loaded again. /readyz
// has a line for each, below its answer.
func (h *Health) SetDetail(detail func() []string) { h.detail.Store(&detail) }

// SetMetrics sets the handler of /metrics, which bounds the time of an answer and the
// number of callers itself.
func (h *Health) SetMetrics(metrics http.Handler) { h.metrics.Store(&metrics) }

// Handler serves GET and HEAD of /livez, 200 as long as the process can answer
// at all, of /readyz, 200 or 503, and of /metrics, 404 without metrics. It serves
// Check, List and Watch of grpc.health.v1.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "alive\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		missing := missing(h.list())
		switch {
		case !h.ready.Load():
			answer(w, http.StatusServiceUnavailable, "not ready: culvert accepts no new calls\n"+h.details())
		case len(missing) > 0:
			answer(w, http.StatusServiceUnavailable, "not ready: a backend in health.depends_on can't take calls\n"+visibleLines(missing)+h.details())
		default:
			answer(w, http.StatusOK, "ready\n"+h.details())
		}
	})
	mux.HandleFunc("POST /grpc.health.v1.Health/Check", h.check)
	mux.HandleFunc("POST /grpc.health.v1.Health/List", h.listAll)
	mux.HandleFunc("POST /grpc.health.v1.Health/Watch", h.watch)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		metrics := h.metrics.Load()
		if metrics == nil {
			answer(w, http.StatusNotFound, "culvert: metrics are off: set health.metrics to true\n")
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		(*metrics).ServeHTTP(w, r)
	})
	return mux
}

func (h *Health) details() string {
	detail := h.detail.Load()
	if detail == nil {
		return ""
	}
	return visibleLines((*detail)())
}

// visibleLines returns lines as a terminal shows them.
func visibleLines(lines []string) string {
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(strings.Map(visible, line) + "\n")
	}
	return text.String()
}

// visible returns what a terminal shows for r: a line may contain text from a CA,
// and its reader may be a person with curl.
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
	_, _ = io.WriteString(w, text) //nolint:gosec,nolintlint // plain text, see its type above; gosec sees it in some runs alone; the caller may be gone
}

// closing closes the connection after each request of HTTP/1.0. net/http drops its
// Transfer-Encoding and would take the body for the next request. RFC 9112 §6.1.
func closing(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.ProtoAtLeast(1, 1) {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// Server returns an http.Server for the handler with bounds on what a caller can hold:
// questions are a line each, and so are answers, except the metrics. If unforgeable
// isn't nil, the server is on loopback and answers only to a Host that it accepts. Its
// Shutdown tells open Watches that culvert ends.
func (h *Health) Server(log *slog.Logger, unforgeable func(host string) bool) *http.Server {
	handler := h.Handler()
	if unforgeable != nil {
		handler = checkHost(handler, unforgeable)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:   closing(handler),
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{ // for gRPC; a Watch lasts as long as its client answers pings
			MaxConcurrentStreams: maxHealthStreams,
			SendPingTimeout:      20 * time.Second,
			PingTimeout:          10 * time.Second,
		},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.RegisterOnShutdown(h.watches.stop)
	return server
}

// checkHost refuses pages that point a name of their own at loopback (DNS
// rebinding): to the browser, they have the same origin as this address. No browser
// sends a request without a Host, but health checks over HTTP/1.0 do.
func checkHost(next http.Handler, unforgeable func(host string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "" && !unforgeable(r.Host) {
			answer(w, http.StatusForbidden, "culvert: this address is on loopback and answers to localhost and IP addresses only, not to the name in Host\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}
