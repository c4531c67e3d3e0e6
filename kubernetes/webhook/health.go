package webhook

import (
	"errors"
	"fmt"
	"net/http"
)

// healthPaths answers the kubelet and Prometheus.
func (s *Server) healthPaths() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		_, err := s.options.Certificate()
		if s.draining.Load() {
			err = errors.New("draining: the injector is about to end")
		}
		if err != nil { // no API server should be sent here
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	return mux
}
