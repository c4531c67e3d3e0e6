package demo

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy(r.Host, tcpAddr(s.pageListener).Port, tcpAddr(s.proxyListener).Port))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // the next version may run on this port
		guarded.ServeHTTP(w, r)
	}), nil
}

// contentPolicy lets the page load nothing that isn't its own, and talk to
// nothing but culvert and the proxy on the host that it came from.
func contentPolicy(host string, ports ...int) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host // no port: the default one
	}
	connect := []string{"'self'"}
	if !strings.ContainsAny(name, " ;,'\"") { // what would end the directive
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		for _, port := range ports {
			connect = append(connect, fmt.Sprintf("http://%s:%d ws://%s:%d", name, port, name, port))
		}
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src " + strings.Join(connect, " ")
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the page may be gone
}
