package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
)

// A web is a web server that only its agent can reach.
type web struct {
	name string
	sick atomic.Bool   // its health check fails
	sent atomic.Int64  // bytes of /bytes
	read chan struct{} // closed when /sum?wait may read
}

func newWeb(name string) *web { return &web{name: name, read: make(chan struct{})} }

func (s *web) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /bytes/{n}", s.bytes)
	mux.HandleFunc("POST /sum", s.sum)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "hello from %s\n", s.name) // or the client has gone
	})
	return mux
}

func (s *web) healthz(w http.ResponseWriter, _ *http.Request) {
	if s.sick.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// bytes sends as many bytes as the path says.
func (s *web) bytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	for piece := make([]byte, 32<<10); n > 0; n -= len(piece) {
		piece = piece[:min(n, len(piece))]
		if _, err := w.Write(piece); err != nil {
			return // the client has gone
		}
		s.sent.Add(int64(len(piece)))
	}
}

// sum reads the body, and its trailer. It answers with trailers: the body's sum, and
// whether the client's own sum, in its trailer, is the same.
func (s *web) sum(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("wait") {
		select {
		case <-s.read:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("Trailer", "X-Sum, X-Same")
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the body broke off
	}
	_, _ = fmt.Fprintf(w, "%d bytes\n", n) // or the client has gone
	text := hex.EncodeToString(sum.Sum(nil))
	w.Header().Set("X-Sum", text)
	w.Header().Set("X-Same", strconv.FormatBool(r.Trailer.Get("X-Sum") == text))
}
