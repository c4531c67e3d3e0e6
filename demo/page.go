package demo

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
)

//go:embed page
var pageFiles embed.FS

// newPage serves the page and its API. The paths have one or three segments,
// because a path of two segments is a gRPC method.
func newPage(s *stage, version string) (http.Handler, error) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /demo/api/info", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, map[string]string{
			"culvert": strconv.Itoa(tcpAddr(s.pageListener).Port),
			"proxy":   strconv.Itoa(tcpAddr(s.proxyListener).Port),
			"backend": s.backendListener.Addr().String(),
			"version": version,
		})
	})
	mux.HandleFunc("POST /demo/api/native", func(w http.ResponseWriter, r *http.Request) {
		by := lane(r.FormValue("lane"))
		if by != laneDirect && by != laneCulvert {
			http.Error(w, fmt.Sprintf("lane: must be %q or %q", laneDirect, laneCulvert), http.StatusBadRequest)
			return
		}
		result, err := s.callNative(r.Context(), by, r.FormValue("via") == "proxy")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answerJSON(w, result)
	})
	// Refuse POST requests from other sites' pages.
	guarded := http.NewCrossOriginProtection().Handler(mux)
	policy := contentPolicy(tcpAddr(s.pageListener).Port, tcpAddr(s.proxyListener).Port)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // another version may use this port next
		guarded.ServeHTTP(w, r)
	}), nil
}

// contentPolicy allows the page to load only its own files, and to connect only
// to the ports of culvert and the proxy. It allows any host, because a policy
// can't express an IPv6 address.
func contentPolicy(ports ...int) string {
	policy := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
	for _, port := range ports {
		policy += fmt.Sprintf(" http://*:%d ws://*:%d", port, port)
	}
	return policy
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the page may have closed the connection
}
