package rules

import (
	"strings"
	"testing"
)

func TestRouteHost(t *testing.T) {
	for host, want := range map[string]string{
		"*": "", "shop.example.com": "shop.example.com", "Shop.Example.com.": "shop.example.com", "*.Example.com": ".example.com", "*.com.": ".com",
		"192.0.2.1": "192.0.2.1", "[192.0.2.1]": "192.0.2.1", "*.192.0.2.1": ".192.0.2.1", "::1": "::1", "[2001:DB8:0::1]": "2001:db8::1", "fe80::1%eth0": "fe80::1", "my_service": "my_service",
		"[::1": "::1", "::1]": "::1", "[192.0.2.1": "192.0.2.1", "192.0.2.1.": "192.0.2.1", "*.192.0.2.1.": ".192.0.2.1", "[FE80::1%Eth0]": "fe80::1", "A.": "a", "*.A.": ".a", "a%eth0": "a%eth0", "-a": "-a",
	} {
		if got, err := RouteHost(host); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", host, got, err, want)
		}
	}
	for host, want := range map[string]string{
		"": "is empty", "**": "first label", "*a.example": "first label", "a.*": "first label", "*.*.a": "first label", "a*:80": "first label", "fe80::1%*": "first label", "[fe80::1%*]": "first label", "fe80::1%a*": "first label",
		"a:80": "remove the port", "a:": "remove the port", "[::1]:80": "remove the port", "*.::1": "remove the port", "*[::1]": "first label",
		"*.[::1]": "remove the port", "[::1]:": "remove the port", "[[::1]]": "remove the port", "::1%]": "remove the port", "A.:80": "remove the port", "a:]": "remove the port", "fe80::1%": "remove the port", "[::1].": "remove the port",
		".": "write a name", "*.": "write a name", "a..b": "write a name", "*..a": "write a name", "a/b": "write a name", "a b": "write a name", "[a]": "write a name", "[]": "write a name", "a..": "write a name", "b\u00fccher": "write a name",
	} {
		if got, err := RouteHost(host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", host, got, err, want)
		}
	}
}

// FuzzRouteHost checks that each host has one spelling.
func FuzzRouteHost(f *testing.F) {
	for _, seed := range []string{"*", "*.a.example.", "A.example", "[::1]", "fe80::1%eth0", "1.2.3.4.", "[[::1]]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		one, err := RouteHost(host)
		if err != nil || one == "" {
			return
		}
		if one[0] == '.' {
			one = "*" + one
		}
		again, err := RouteHost(one)
		if err != nil || strings.TrimPrefix(one, "*") != again {
			t.Errorf("%q becomes %q, and that %q, %v", host, one, again, err)
		}
	})
}

func TestCutPort(t *testing.T) {
	for _, c := range []struct {
		in, host, port string
		found          bool
	}{
		{"", "", "", false},
		{"a.example", "a.example", "", false},
		{"a.example:80", "a.example", "80", true},
		{"a.example:", "a.example", "", true},
		{"a:1:2", "a:1", "2", true},
		{"::1", ":", "1", true},
		{"[::1]", "[::1]", "", false},
		{"[::1]:80", "[::1]", "80", true},
		{"::1]", "::1]", "", false},
		{":80", "", "80", true},
	} {
		if host, port, found := CutPort(c.in); host != c.host || port != c.port || found != c.found {
			t.Errorf("%q: %q, %q, %v; want %+v", c.in, host, port, found, c)
		}
	}
}

func TestIsPort(t *testing.T) {
	for s, want := range map[string]bool{"0": true, "80": true, "0080": true, "65535": true, "65536": false, "": false, "-1": false, "+1": false, "a": false, "*": false, " 1": false} {
		if got := IsPort(s); got != want {
			t.Errorf("%q is a port: %v, want %v", s, got, want)
		}
	}
}

func TestUsualPort(t *testing.T) {
	for scheme, want := range map[string]string{"http": "80", "https": "443", "": "", "HTTP": "", "ws": "", "vscode-webview": ""} {
		if got := UsualPort(scheme); got != want || IsWeb(scheme) != (want != "") {
			t.Errorf("%q has the port %q, is of the web: %v, want %q", scheme, got, IsWeb(scheme), want)
		}
	}
}

func TestWebServer(t *testing.T) {
	for text, want := range map[string]bool{
		"http://a": true, "https://a:1/": true, "HTTP://a": true, "http://[fe80::1%25eth0]:3000": true, "http://a:": true,
		"": false, "a:3000": false, "ftp://a": false, "http://": false, "http://:3000": false, "http://u@a": false, "http://a/b": false, "http://a?": false, "http://a?b": false, "http://a#b": false, "http://a:b": false, "http://[fe80::1%eth0]": false,
	} {
		if u, ok := WebServer(text); ok != want {
			t.Errorf("%q: %v, %v; want %v", text, u, ok, want)
		}
	}
}
