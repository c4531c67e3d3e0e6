package bridge

import (
	"strings"
	"testing"
)

func policy(t testing.TB, allow, hosts []string) originPolicy {
	t.Helper()
	p, err := newOriginPolicy(allow, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOrigins(t *testing.T) {
	allow := []string{
		"https://app.example.com", "https://*.wild.example", "https://*.ports.example:*", "http://localhost:*", "https://port.example:8443",
		"http://[::1]:3000", "vscode-webview://*", "https://Upper.Example.COM", "https://default.example:443", "http://default.example:80",
	}
	p := policy(t, allow, nil)
	for origin, want := range map[string]bool{
		"https://app.example.com":                          true,
		"https://APP.Example.com":                          true,
		"HTTPS://app.example.com":                          true,
		"http://app.example.com":                           false, // another scheme
		"https://app.example.com:8443":                     false, // another port
		"https://app.example.com.":                         false, // another name to the browser
		"https://app.example.com.evil":                     false,
		"https://evil-app.example.com":                     false,
		"https://evilapp.example.com":                      false,
		"https://sub.app.example.com":                      false,
		"https://example.com":                              false,
		"https://app.example.com/":                         false,
		"https://app.example.com/path":                     false,
		"https://app.example.com@evil":                     false,
		"https://evil@app.example.com":                     false,
		"https://evil:1@app.example.com":                   false,
		"app.example.com":                                  false,
		"//app.example.com":                                false,
		"null":                                             false,
		" ":                                                false,
		"https://":                                         false,
		"https://app.example.com\x00":                      false,
		"https://app.example.com evil":                     false,
		"https://app.example.com, https://app.example.com": false,
		"https://app%2eexample.com":                        false,

		"https://a.wild.example":          true,
		"https://a.b.wild.example":        true,
		"https://A.Wild.Example":          true,
		"https://wild.example":            false, // the name itself is another one
		"https://.wild.example":           false,
		"https://evilwild.example":        false,
		"https://a.wild.example.evil":     false,
		"https://a.wild.example:8443":     false,
		"http://a.wild.example":           false,
		"https://evil/.wild.example":      false,
		"https://evil?.wild.example":      false,
		"https://evil#.wild.example":      false,
		"https://evil\\.wild.example":     false,
		"https://evil:80.wild.example":    false,
		"https://a.ports.example":         true,
		"https://a.ports.example:1":       true,
		"https://a.ports.example:99999":   true, // not a port, but nobody's page either
		"https://a.ports.example:x":       false,
		"https://ports.example:1":         false,
		"https://port.example:8443":       true,
		"https://port.example":            false,
		"https://port.example:443":        false,
		"http://localhost":                true,
		"http://localhost:3000":           true,
		"https://localhost:3000":          false,
		"http://localhost.evil:3000":      false,
		"http://evil.localhost:3000":      false,
		"http://127.0.0.1:3000":           false,
		"http://[::1]:3000":               true,
		"http://[::1]:3001":               false,
		"http://[::1]":                    false,
		"http://[0:0:0:0:0:0:0:1]:3000":   false, // no browser writes it so
		"vscode-webview://1abc2def":       true,
		"vscode-webview://":               false,
		"vscode-webview-evil://1abc2def":  false,
		"https://vscode-webview":          false,
		"https://upper.example.com":       true,
		"https://default.example":         true,
		"http://default.example":          true,
		"https://default.example:80":      false,
		"chrome-extension://aaaabbbbcccc": false,
		"file://":                         false,
	} {
		v := p.judge(origin, "app.example.com")
		if v.allowed != want || v.any || v.origin != origin {
			t.Errorf("%q: got %+v, want allowed %v", origin, v, want)
		}
	}
}

func TestNoOriginIsNoBrowser(t *testing.T) {
	if v := policy(t, nil, nil).judge("", "evil.example"); !v.allowed || v.origin != "" {
		t.Errorf("got %+v, want it allowed", v)
	}
}

func TestAnyOriginCountsWithoutCookies(t *testing.T) {
	p := policy(t, []string{"*", "https://app.example.com"}, nil)
	for origin, any := range map[string]bool{
		"https://app.example.com": false, // it is listed as well
		"https://evil.example":    true,
		"null":                    true,
		"file://":                 true,
		"::":                      true,
	} {
		if v := p.judge(origin, "h"); !v.allowed || v.any != any {
			t.Errorf("%q: got %+v, want it allowed, by the wildcard alone: %v", origin, v, any)
		}
	}
}

// TestPagesOfThisServer: a page calls home when home is a configured name, or
// an address that no name server can point elsewhere.
func TestPagesOfThisServer(t *testing.T) {
	hosts := []string{"grpc.example.com", "Other.Example.com:8443"}
	for _, c := range []struct {
		origin, host string
		want         bool
	}{
		{"https://grpc.example.com", "grpc.example.com", true},
		{"https://grpc.example.com", "anything", true},
		{"https://GRPC.example.com:8080", "grpc.example.com:8080", true},
		{"http://grpc.example.com", "grpc.example.com", true},
		{"ftp://grpc.example.com", "grpc.example.com", false},
		{"https://other.example.com:8443", "other.example.com:8443", true},
		{"https://other.example.com", "other.example.com", false},
		{"https://evilgrpc.example.com", "evilgrpc.example.com", false},
		{"http://localhost:8080", "localhost:8080", true},
		{"http://LOCALHOST:8080", "localhost:8080", true},
		{"http://demo.localhost:8080", "demo.localhost:8080", true},
		{"http://localhost:3000", "localhost:8080", false}, // another server of this machine
		{"http://127.0.0.1:8080", "127.0.0.1:8080", true},
		{"http://[::1]:8080", "[::1]:8080", true},
		{"http://127.0.0.1:8080", "localhost:8080", false},
		{"https://203.0.113.7", "203.0.113.7", true},
		// DNS rebinding: the page's own name points here, so Origin and Host agree.
		{"http://evil.example:8080", "evil.example:8080", false},
		{"http://127.0.0.1.evil.example:8080", "127.0.0.1.evil.example:8080", false},
		{"http://localhost.evil.example", "localhost.evil.example", false},
		{"http://evillocalhost", "evillocalhost", false},
		{"http://user@localhost:8080", "localhost:8080", false},
	} {
		if v := policy(t, nil, hosts).judge(c.origin, c.host); v.allowed != c.want {
			t.Errorf("a page of %q that calls %q: allowed %v, want %v", c.origin, c.host, v.allowed, c.want)
		}
	}
}

func TestHostsOfALoopbackListener(t *testing.T) {
	p := policy(t, []string{"*"}, []string{"grpc.example.com", "other.example.com:8443"})
	for host, want := range map[string]bool{
		"127.0.0.1":              true,
		"127.0.0.1:8080":         true,
		"10.1.2.3:8080":          true,
		"[::1]:8080":             true,
		"[::1]":                  true,
		"localhost":              true,
		"LocalHost:8080":         true,
		"a.localhost:8080":       true,
		"grpc.example.com":       true,
		"GRPC.example.com:8080":  true,
		"other.example.com:8443": true,
		"other.example.com:8444": false,
		"other.example.com":      false,
		"evil.example":           false,
		"evil.example:8080":      false,
		"127.0.0.1.evil.example": false,
		"localhost.evil.example": false,
		"evillocalhost":          false,
		"":                       false,
		":8080":                  false,
		"127.0.0.1:8080:8080":    false,
		"2130706433":             false,
	} {
		if got := p.allowsHost(host); got != want {
			t.Errorf("%q: allowed %v, want %v", host, got, want)
		}
	}
}

func TestOriginPatternsThatMeanNothing(t *testing.T) {
	for _, text := range []string{
		"", "app.example.com", "https://", "://app.example.com", "https://app.example.com/", "https://app.example.com/path",
		"https://app.example.com?a", "https://app.example.com#a", "https://user@app.example.com", "https://a b",
		"https://*", "http://*", "https://*:8443", "https://*.", "https://*example.com", "https://app.*.com", "https://app.*", "https://*.*.com",
	} {
		if _, err := newOriginPolicy([]string{text}, nil); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q: got the error %v, want one that says what is wanted", text, err)
		}
	}
}

// FuzzOrigin holds a wildcard to the names below it, by a reading of origins
// that is not net/url's.
func FuzzOrigin(f *testing.F) {
	for _, seed := range []string{
		"https://a.example.com", "https://evilexample.com", "https://a.example.com.evil", "https://evil/.example.com",
		"https://evil#.example.com", "https://evil@a.example.com", "https://[::1].example.com", "https://.example.com",
		"HTTPS://A.EXAMPLE.COM", "https://a.example.com:443", "null", "https://a.example.com/", "https:a.example.com",
		"https://\u212a.example.com", "https://a%2f.example.com", "https:///a.example.com", "https://a.example.com?", "https://a.example.com#",
	} {
		f.Add(seed, "localhost:8080")
	}
	f.Add("http://localhost:8080", "localhost:8080")
	f.Add("http://evil.example", "evil.example")
	p := policy(f, []string{"https://*.example.com"}, []string{"grpc.example.net"})
	f.Fuzz(func(t *testing.T, origin, host string) {
		v := p.judge(origin, host)
		if v.origin != origin || v.any {
			t.Fatalf("%q became %+v", origin, v)
		}
		if !v.allowed || origin == "" {
			return
		}
		lower := strings.ToLower(origin)
		scheme, rest, _ := strings.Cut(lower, "://")
		name, port := rest, ""
		if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
			name, port = rest[:i], rest[i+1:]
		}
		bare := strings.Trim(name, "[]")
		switch {
		case strings.ContainsAny(rest, "/?#@\\ \t\r\n\x00"):
			t.Errorf("%q is allowed, and is more than scheme, host and port", origin)
		case scheme == "https" && port == "" && strings.HasSuffix(name, ".example.com") && len(name) > len(".example.com"):
		case (scheme == "http" || scheme == "https") && name == "grpc.example.net":
		case (scheme == "http" || scheme == "https") && rest == strings.ToLower(host) && unforgeable(bare):
		default:
			t.Errorf("%q is allowed to call %q", origin, host)
		}
	})
}
