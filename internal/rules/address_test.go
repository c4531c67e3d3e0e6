package rules

import "testing"

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
