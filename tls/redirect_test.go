package proxytls

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func redirected(port int, method, host, uri string) *http.Response {
	serves := func(host string) bool { return host == "a.example" || host == "2001:db8::1" || host == "192.0.2.1" }
	at, host := asked(host, uri)
	r := &http.Request{Method: method, Host: host, RequestURI: uri, URL: at}
	own := &net.TCPAddr{IP: net.IPv6loopback, Port: 80}
	w := httptest.NewRecorder()
	RedirectHandler(port, serves).ServeHTTP(w, r.WithContext(context.WithValue(context.Background(), http.LocalAddrContextKey, own)))
	return w.Result()
}

// asked is what net/http makes of a host and what stands in the request's line.
func asked(host, uri string) (*url.URL, string) {
	at, err := url.ParseRequestURI(uri)
	if err != nil {
		return &url.URL{}, host
	}
	return at, cmp.Or(at.Host, host)
}

func TestRedirectKeepsHostPathAndMethod(t *testing.T) {
	for _, c := range []struct {
		port              int
		method, host, uri string
		want              string // "": no host; "unknown": none of ours
	}{
		{443, "GET", "a.example", "/", "https://a.example/"},
		{443, "GET", "a.example:80", "/x?y=%2F", "https://a.example/x?y=%2F"},
		{8443, "POST", "a.example:8080", "/x", "https://a.example:8443/x"},
		{443, "GET", "[::1]:80", "/", "https://[::1]/"},
		{8443, "GET", "[2001:db8::1]", "/", "https://[2001:db8::1]:8443/"},
		{8443, "GET", "192.0.2.1:80", "/", "https://192.0.2.1:8443/"},
		{443, "GET", "a.example", "//evil.example/", "https://a.example//evil.example/"},
		{443, "GET", "A.Example.", "/", "https://A.Example./"},
		{443, "GET", "evil.example", "/", "unknown"},
		{443, "GET", "evil.example:443", "/", "unknown"},
		{443, "GET", "192.0.2.2", "/", "unknown"},
		{443, "GET", "[::2]", "/", "unknown"},
		{443, "GET", "", "/", ""},
		{443, "GET", "a.example:99999", "/", ""},
		{443, "GET", "a.example:", "/", ""},
		{443, "GET", "a.example:80:80", "/", ""},
		{443, "GET", "a..example", "/", ""},
		{443, "GET", ".a.example", "/", ""},
		{443, "GET", "a.example,evil.example", "/", ""},
		{443, "GET", "a.example@evil.example", "/", ""},
		{443, "GET", "a.example/evil", "/", ""},
		{443, "GET", "a.example\r\nx: y", "/", ""},
		{443, "GET", "[not-an-address]", "/", ""},
		{443, "OPTIONS", "a.example", "*", ""},
		{443, "GET", "a.example", "http://evil.example/", "unknown"},
		{8443, "GET", "other.example", "http://a.example:80/x?y=%2F", "https://a.example:8443/x?y=%2F"},
		{443, "GET", "other.example", "http://a.example", "https://a.example/"},
		{443, "GET", "other.example", "http://a.example//evil.example/", "https://a.example//evil.example/"},
		{443, "GET", "a.example", "http://user@a.example/", ""},
		{443, "GET", "a.example", "ftp://a.example/", ""},
		{443, "GET", "a.example", "http:evil.example", ""},
		{443, "CONNECT", "a.example:443", "a.example:443", ""},
	} {
		res := redirected(c.port, c.method, c.host, c.uri)
		want, status, cached := c.want, http.StatusPermanentRedirect, redirectAge
		switch c.want {
		case "":
			status, cached = http.StatusBadRequest, ""
		case "unknown":
			want, status, cached = "", http.StatusMisdirectedRequest, ""
		}
		if got := res.Header.Get("Location"); res.StatusCode != status || got != want {
			t.Errorf("%s %s of %q: %d to %q, want %d to %q", c.method, c.uri, c.host, res.StatusCode, got, status, want)
		}
		if got := res.Header.Get("Cache-Control"); got != cached {
			t.Errorf("%s %s of %q: Cache-Control is %q, want %q", c.method, c.uri, c.host, got, cached)
		}
	}
}

// The redirect leads where a certificate is, or will be.
func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	p, err := New(Options{ConfigKey: "tls", Certificates: []Pair{
		write(t, t.TempDir(), "one", ca.issue(time.Hour, "grpc.example.com", "192.0.2.1")),
		write(t, t.TempDir(), "two", ca.issue(time.Hour, "*.app.example.com")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	d, err := NewDevelopment(filepath.Join(t.TempDir(), "development"), []string{"app.test", "*.sites.test"})
	if err != nil {
		t.Fatal(err)
	}
	a := &ACME{opts: ACMEOptions{Domains: []string{"shop.example.com", "*.wild.example.com"}, OnDemand: []string{"*.tenants.example.com"}}}
	for _, row := range []struct {
		by     string
		serves func(string) bool
		yes    []string
		no     []string
	}{
		{"files", p.Serves, []string{"grpc.example.com", "192.0.2.1", "a.app.example.com"}, []string{"example.com", "192.0.2.2", "a.b.app.example.com", "app.example.com", ""}},
		{"the development CA", d.Serves, []string{"localhost", "127.0.0.1", "::1", "app.test", "a.sites.test"}, []string{"other.test", "127.0.0.2", ""}},
		{"ACME", a.Serves, []string{"shop.example.com", "a.wild.example.com", "a.tenants.example.com"}, []string{"example.com", "wild.example.com", "a.b.tenants.example.com", ""}},
	} {
		for _, host := range row.yes {
			if !row.serves(host) {
				t.Errorf("%s: %q isn't served", row.by, host)
			}
		}
		for _, host := range row.no {
			if row.serves(host) {
				t.Errorf("%s: %q is served", row.by, host)
			}
		}
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add("a.example:80", "/x?y")
	f.Add("[::1]:80", "//evil.example")
	f.Add("a.example@evil", "/\\evil")
	f.Add("other.example", "http://a.example/x")
	f.Fuzz(func(t *testing.T, host, uri string) {
		res := redirected(8443, "GET", host, uri)
		location := res.Header.Get("Location")
		if location == "" {
			return
		}
		rest, ok := strings.CutPrefix(location, "https://")
		authority, _, _ := strings.Cut(rest, "/")
		_, host = asked(host, uri)
		if !ok || authority != bareHost(host)+":8443" || normalName(authority) != "a.example" && authority != "[::1]:8443" && authority != "[2001:db8::1]:8443" && authority != "192.0.2.1:8443" || strings.ContainsAny(authority, "@\\?# \r\n") {
			t.Errorf("%q %q is sent to %q", host, uri, location)
		}
	})
}
