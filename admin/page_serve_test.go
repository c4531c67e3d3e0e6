package admin

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestPageIsForBrowsers: who names text/html in Accept gets the page, and others the list.
func TestPageIsForBrowsers(t *testing.T) {
	c, _ := control(t)
	h := c.Handler()
	for accept, page := range map[string]bool{
		"": false, "*/*": false, "text/*": false, "application/json": false, "text/plain": false, "text/plain, text/html;q=0.9": false,
		"text/html;q=0": false, "text/html;q=2": false, "text/html;q=NaN": false, "text/html;q=x": false, "text/html;;": false, "x, \x00": false,
		"text/html": true, "text/html, */*;q=0.1": true, "TEXT/HTML; charset=utf-8": true, "text/plain;q=0.5,text/html;q=0.5": true, "/, text/html": true,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8": true,
	} {
		w := ask(t, h, http.MethodGet, "/", "", func(r *http.Request) { r.Header.Set("Accept", accept) })
		begins := "culvert v1.2.3\n"
		if page {
			begins = "<!doctype html>\n"
		}
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), begins) || w.Header().Get("Vary") != "Accept" {
			t.Errorf("Accept: %s: got %d, %v, %.40q; want %q", accept, w.Code, w.Header(), w.Body, begins)
		}
	}
}

// TestPageHasAPolicy: the page loads only its own files, and its texts can't become elements.
func TestPageHasAPolicy(t *testing.T) {
	c, _ := control(t)
	h := c.Handler()
	for path, want := range map[string]struct{ kind, has string }{
		"/":         {"text/html; charset=utf-8", `<script type="module" src="page.js">`},
		"/page.js":  {"text/javascript; charset=utf-8", "// Built from web/page/admin by build.js."},
		"/page.css": {"text/css; charset=utf-8", "color-scheme"},
		"/icon.svg": {"image/svg+xml", "<svg"},
	} {
		w := ask(t, h, http.MethodGet, path, "", func(r *http.Request) { r.Header.Set("Accept", "text/html") })
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != want.kind || !strings.Contains(w.Body.String(), want.has) {
			t.Errorf("%s: got %d, %v, %.80q", path, w.Code, w.Header(), w.Body)
		}
		policy := w.Header().Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains("; "+policy+";", "; "+rule+";") {
				t.Errorf("%s: the policy %q has no %q", path, policy, rule)
			}
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: got %v", path, w.Header())
		}
		if refused := ask(t, h, http.MethodGet, path, "", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); refused.Code != http.StatusForbidden {
			t.Errorf("%s asked for by another site's page: got %d, want 403", path, refused.Code)
		}
	}
}

// TestPageIsSmallAndOffline: the page names no other host, and its program stays small.
func TestPageIsSmallAndOffline(t *testing.T) {
	elsewhere := regexp.MustCompile(`(https?:|["'(])//[^ "')]+|innerHTML|insertAdjacentHTML| style=`)
	for name, most := range map[string]int{"index.html": 4 << 10, "page.css": 16 << 10, "page.js": 40 << 10, "icon.svg": 1 << 10} {
		text, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > most {
			t.Errorf("%s has %d bytes, want at most %d", name, len(text), most)
		}
		plain := strings.NewReplacer("http://www.w3.org/2000/svg", "", "http://127.0.0.1:9902/", "").Replace(string(text))
		if found := elsewhere.FindAllString(plain, -1); len(found) > 0 {
			t.Errorf("%s has %q: it names another host, or makes elements of a text", name, found)
		}
	}
}

// FuzzPrefersHTML: only who names text/html prefers it.
func FuzzPrefersHTML(f *testing.F) {
	for _, s := range []string{"", "*/*", "text/html", "text/plain, text/html;q=0.9", "TEXT/HTML;q=1", "text/html;q=NaN", ",,;", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		if prefersHTML([]string{accept}) && !strings.Contains(strings.ToLower(accept), "text/html") {
			t.Errorf("%q prefers text/html", accept)
		}
	})
}
