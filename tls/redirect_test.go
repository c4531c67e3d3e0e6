package proxytls

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func redirected(port int, method, host, uri string) *http.Response {
	w := httptest.NewRecorder()
	RedirectHandler(port).ServeHTTP(w, &http.Request{Method: method, Host: host, RequestURI: uri, URL: &url.URL{}})
	return w.Result()
}

func TestRedirectKeepsHostPathAndMethod(t *testing.T) {
	for _, c := range []struct {
		port              int
		method, host, uri string
		want              string // "": refused
	}{
		{443, "GET", "a.example", "/", "https://a.example/"},
		{443, "GET", "a.example:80", "/x?y=%2F", "https://a.example/x?y=%2F"},
		{8443, "POST", "a.example:8080", "/x", "https://a.example:8443/x"},
		{443, "GET", "[::1]:80", "/", "https://[::1]/"},
		{8443, "GET", "[2001:db8::1]", "/", "https://[2001:db8::1]:8443/"},
		{8443, "GET", "192.0.2.1:80", "/", "https://192.0.2.1:8443/"},
		{443, "GET", "a.example", "//evil.example/", "https://a.example//evil.example/"},
		{443, "GET", "", "/", ""},
		{443, "GET", "a.example@evil.example", "/", ""},
		{443, "GET", "a.example/evil", "/", ""},
		{443, "GET", "a.example\r\nx: y", "/", ""},
		{443, "GET", "[not-an-address]", "/", ""},
		{443, "OPTIONS", "a.example", "*", ""},
		{443, "GET", "a.example", "http://evil.example/", ""},
		{443, "CONNECT", "a.example:443", "a.example:443", ""},
	} {
		res := redirected(c.port, c.method, c.host, c.uri)
		status := http.StatusPermanentRedirect
		if c.want == "" {
			status = http.StatusBadRequest
		}
		if got := res.Header.Get("Location"); res.StatusCode != status || got != c.want {
			t.Errorf("%s %s of %q: %d to %q, want %q", c.method, c.uri, c.host, res.StatusCode, got, c.want)
		}
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add("a.example:80", "/x?y")
	f.Add("[::1]:80", "//evil.example")
	f.Add("a.example@evil", "/\\evil")
	f.Fuzz(func(t *testing.T, host, uri string) {
		res := redirected(8443, "GET", host, uri)
		location := res.Header.Get("Location")
		if location == "" {
			return
		}
		rest, ok := strings.CutPrefix(location, "https://")
		authority, _, _ := strings.Cut(rest, "/")
		if !ok || authority != bareHost(host)+":8443" || strings.ContainsAny(authority, "@\\?# \r\n") {
			t.Errorf("%q %q is sent to %q", host, uri, location)
		}
	})
}
