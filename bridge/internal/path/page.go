package path

import (
	_ "embed"
	"io"
	"net/http"
	"strconv"
)

// Page is the path of the page that tests the network from a browser. web/page has its sources.
const Page = "/_culvert/doctor"

// The files of the page are strings, which take no heap.
var (
	//go:embed page/index.html
	pageHTML string
	//go:embed page/page.js
	pageJS string
	//go:embed page/page.css
	pageCSS string
)

// A PageFile is a file of the page.
type PageFile struct{ contentType, content string }

// pageParts are the files by what follows Page in their paths. No path of theirs with two
// segments but Page itself looks like one of a method.
var pageParts = map[string]*PageFile{
	"":          {"text/html; charset=utf-8", pageHTML},
	"/page.js":  {"text/javascript; charset=utf-8", pageJS},
	"/page.css": {"text/css; charset=utf-8", pageCSS},
}

// PartOfPage returns the file whose path is Page and then the name, or nil.
func PartOfPage(name string) *PageFile { return pageParts[name] }

// pagePolicy lets the page load its own files, and connect to its own origin, only.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP answers a GET. Pages of all origins may read the answer: diagnose() of
// @culvert/web learns from it that culvert answers, and only doesn't allow the page to call.
func (f *PageFile) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", strconv.Itoa(len(f.content)))
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // another version may come
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = io.WriteString(w, f.content) // the client may be gone
}
