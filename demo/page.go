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

// newPage serves the page and answers what it asks of this process. Its paths
// have one or three segments: two are a method's.
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
		answerJSON(w, s.callNative(r.Context(), r.FormValue("via") == "proxy"))
	})
	// Other pages make no calls here: a POST from one is refused.
	guarded := http.NewCrossOriginProtection().Handler(mux)
	policy := contentPolicy(tcpAddr(s.pageListener).Port, tcpAddr(s.proxyListener).Port)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // the next version may run on this port
		guarded.ServeHTTP(w, r)
	}), nil
}

// contentPolicy lets the page load nothing that isn't its own, and talk to
// nothing but culvert's port and the proxy's. It can't say on which host: a
// policy has no words for the address of IPv6.
func contentPolicy(ports ...int) string {
	policy := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
	for _, port := range ports {
		policy += fmt.Sprintf(" http://*:%d ws://*:%d", port, port)
	}
	return policy
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the page may be gone
}
