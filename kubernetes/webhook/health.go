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
		if err := s.unready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	return mux
}

// unready returns why no API server should be sent here, or nil.
func (s *Server) unready() error {
	if s.draining.Load() {
		return errors.New("draining: the injector is about to end")
	}
	_, err := s.options.Certificate()
	return err
}
