package admin

import (
	"embed"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load its own files and ask its own origin, only. The browser also
// refuses to make elements of a text, so the text of a peer can't become part of the page.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// servePage adds the page for browsers. web/page/admin has the sources of its program.
func (c *Control) servePage(mux *http.ServeMux) {
	index := pageFile("index.html", "text/html; charset=utf-8")
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if prefersHTML(r.Header.Values("Accept")) {
			index(w, r)
			return
		}
		c.list(w, r)
	})
	mux.HandleFunc("GET /page.js", pageFile("page.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /page.css", pageFile("page.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", pageFile("icon.svg", "image/svg+xml"))
}

func pageFile(name, contentType string) http.HandlerFunc {
	content, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Length", strconv.Itoa(len(content)))
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // another version may come
		_, _ = w.Write(content)            // the caller may be gone
	}
}

// prefersHTML reports whether Accept names text/html, and prefers no plain text to it. Browsers
// name it, and curl doesn't. RFC 9110 §12.5.1.
func prefersHTML(accept []string) bool {
	html, plain := 0.0, 0.0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if text, given := parameters["q"]; given {
			if q, err = strconv.ParseFloat(text, 64); err != nil || !(0 <= q && q <= 1) { // NaN is neither
				continue
			}
		}
		switch kind {
		case "text/html":
			html = max(html, q)
		case "text/plain":
			plain = max(plain, q)
		}
	}
	return html > 0 && html >= plain
}
