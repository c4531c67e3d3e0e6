package gate

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestParseAuthority(t *testing.T) {
	for _, c := range []struct{ in, host, port string }{
		{"a.example", "a.example", ""},
		{"A.Example:443", "A.Example", "443"},
		{"a.example.", "a.example", ""},
		{"a.example.:8443", "a.example", "8443"},
		{"a.example:", "a.example", ""}, // RFC 9110 §4.2.3: as without one
		{"a_b:065535", "a_b", "065535"},
		{"localhost", "localhost", ""},
		{"192.0.2.1:80", "192.0.2.1", "80"},
		{"[2001:db8::1]", "2001:db8::1", ""},
		{"[::ffff:192.0.2.1]:80", "::ffff:192.0.2.1", "80"},
		{"[fe80::1%25eth0]:80", "fe80::1%25eth0", "80"},
		{"my%20backend", "my%20backend", ""}, // as grpc-go writes a name of its own resolver
		{"a!b", "a!b", ""},
	} {
		host, port, ok := ParseAuthority(c.in)
		if !ok || host != c.host || port != c.port {
			t.Errorf("%q: %q, %q, %v; want %q, %q", c.in, host, port, ok, c.host, c.port)
		}
		if n := testing.AllocsPerRun(100, func() { ParseAuthority(c.in) }); n > 0 {
			t.Errorf("%q: %v allocations", c.in, n)
		}
	}
	for _, in := range []string{
		"", ":", ":80", ".", "..", ".:80", "a..", "a..:80", "a..b", ".a", "a:1:2", "a:b", "a:-1", "a:+1", "a:65536", "a:99999999999999999999", "a: 1",
		"::1", "2001:db8::1", "[::1", "::1]", "[::1]]", "[[::1]]", "[::1]a", "[::1]a:80", "[::1]:b", "[]", "[]:80", "[a]", "[192.0.2.1]", "[v1.a]",
		"[fe80::1%]", "[fe80::1%a]b]", "a[::1]", "a]", "u@a.example", "u:p@a.example", "a.example,b.example", "a;b", "a=b", "a/b", "a b", "a\tb", "a\x00", "caf\u00e9",
		"a%", "a%2", "a%zz", "%61.example", "a%2eexample", "a%2Eexample", strings.Repeat("a", 256),
	} {
		if host, port, ok := ParseAuthority(in); ok {
			t.Errorf("%q is taken for %q, %q", in, host, port)
		}
	}
}

// FuzzParseAuthority: what is a host for culvert is the same for net/url, in one
// spelling.
func FuzzParseAuthority(f *testing.F) {
	for _, seed := range []string{"a.example:443", "a.example.", "a..", "a:1:2", "[::1]:80", "[fe80::1%25eth0]", "[fe80::%00.]", "u@a", "a%2eb", "a%20b", ":80", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		host, port, ok := ParseAuthority(in)
		if !ok {
			return
		}
		isIPv6 := strings.HasPrefix(in, "[")
		if _, err := netip.ParseAddr(host); isIPv6 != strings.Contains(host, ":") || isIPv6 && err != nil {
			t.Errorf("%q: the host %q is an address: %v", in, host, err)
		}
		if !isIPv6 && (strings.HasSuffix(host, ".") || strings.Contains("."+host, "..")) {
			t.Errorf("%q: the host is %q", in, host)
		}
		u, err := url.Parse("http://" + in + "/")
		if strings.Contains(in, "%") {
			return // net/url decodes what it can
		}
		if err != nil || u.User != nil || strings.TrimSuffix(u.Hostname(), ".") != host || u.Port() != port {
			t.Errorf("%q: %q, %q; net/url reads %v, %v", in, host, port, u, err)
		}
		if isIPv6 {
			return
		}
		// With a dot at its end it is the same host, with two it is none.
		again := host + "."
		if same, _, ok := ParseAuthority(again); !ok || same != host {
			t.Errorf("%q is %q, %v; want %q", again, same, ok, host)
		}
		if _, _, ok := ParseAuthority(again + "."); ok {
			t.Errorf("%q. is taken", again)
		}
	})
}
