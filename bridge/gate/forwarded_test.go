package gate

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseForwarded(t *testing.T) {
	for _, c := range []struct {
		line string
		want []hop
	}{
		{"", nil},
		{" , ,", nil},
		{"for=192.0.2.43", []hop{{client: "192.0.2.43"}}},
		{"For=192.0.2.43, FOR=198.51.100.17", []hop{{client: "192.0.2.43"}, {client: "198.51.100.17"}}},
		{`for="_gazonk"`, []hop{{client: "_gazonk"}}},
		{`For="[2001:db8:cafe::17]:4711"`, []hop{{client: "[2001:db8:cafe::17]:4711"}}},
		{"for=192.0.2.60;proto=http;by=203.0.113.43", []hop{{client: "192.0.2.60", proto: "http"}}},
		{"for=192.0.2.43,for=198.51.100.17;host=a.example; proto=https ;", []hop{{client: "192.0.2.43"}, {client: "198.51.100.17", host: "a.example", proto: "https"}}},
		{"for=unknown", []hop{{client: "unknown"}}},
		{"for=[2001:db8::1]:80", []hop{{client: "[2001:db8::1]:80"}}}, // without its quotes
		{`host="a\.example"`, []hop{{host: "a.example"}}},
		{"by=_x, for=192.0.2.1", []hop{{}, {client: "192.0.2.1"}}}, // a hop that names nobody
		{"secret=1;for=192.0.2.1", []hop{{client: "192.0.2.1"}}},
	} {
		if got, err := parseForwarded(c.line); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.line, got, err, c.want)
		}
	}
	for _, line := range []string{
		"192.0.2.43", "for", "for=", "=a", "for=a;for=b", "FOR=a;for=b", `for="a`, `for="a\`, `for="a,b"`, `for="a" b`, `for=a"b"`,
		"for=a=b", "f r=a", "for =a", "for=a b", "for=\"a\x00\"", "for=\"\xff\"", `for="\,"`, `for=", for=192.0.2.1`,
	} {
		if got, err := parseForwarded(line); err == nil {
			t.Errorf("%q: %+v, want an error", line, got)
		}
	}
}

func FuzzParseForwarded(f *testing.F) {
	for _, seed := range []string{
		`for=192.0.2.60;proto=http;by=203.0.113.43`, `For="[2001:db8:cafe::17]:4711", for=unknown`, `for="_a\"b";host="x:1"`, `for=",for=1.2.3.4`, ", ;",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		hops, err := parseForwarded(line)
		if err != nil {
			return
		}
		if len(hops) > strings.Count(line, ",")+1 {
			t.Errorf("%q: %d hops", line, len(hops))
		}
		// What a trusted proxy appends is told from whatever stands before it.
		more, err := parseForwarded(line + ", for=192.0.2.1")
		if err != nil || len(more) != len(hops)+1 || more[len(more)-1] != (hop{client: "192.0.2.1"}) || !slices.Equal(more[:len(hops)], hops) {
			t.Errorf("%q with a hop more: %+v, %v", line, more, err)
		}
	})
}

// FuzzForwardedFor: whatever a client sends, the address that a trusted proxy
// adds is the client.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "127.0.0.1", "10.0.0.1, 10.0.0.2", ",,", "[::1]:80", "::ffff:10.0.0.1", "fe80::1%eth0", "a\"b", "unknown"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, forged string) {
		proxies := Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
		for _, h := range []http.Header{{"X-Forwarded-For": {forged, "203.0.113.9"}}, {"X-Forwarded-For": {forged + ", 203.0.113.9, 10.0.0.7"}}} {
			if client, err := new(Forwarding).Trust(h, proxies); err != nil || client != "203.0.113.9" {
				t.Errorf("%q: the client is %q, %v", h, client, err)
			}
		}
	})
}
