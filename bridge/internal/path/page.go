package path

import (
	"embed"
	"net/http"
	"strconv"
)

// Page is the path of the page that tests the network from a browser. web/page has its sources.
const Page = "/_culvert/doctor"

//go:embed page
var pageFiles embed.FS

// A PageFile is a file of the page.
type PageFile struct {
	contentType string
	content     []byte
}

// pageParts are the files by what follows Page in their paths. No path of theirs with two
// segments but Page itself looks like one of a method.
var pageParts = map[string]*PageFile{
	"":          newPageFile("index.html", "text/html; charset=utf-8"),
	"/page.js":  newPageFile("page.js", "text/javascript; charset=utf-8"),
	"/page.css": newPageFile("page.css", "text/css; charset=utf-8"),
}

func newPageFile(name, contentType string) *PageFile {
	content, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &PageFile{contentType, content}
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
	_, _ = w.Write(f.content) // the client may be gone
}
