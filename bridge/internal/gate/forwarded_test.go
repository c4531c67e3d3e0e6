package gate

import (
	"net/http"
	"net/netip"
	"runtime"
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
		if got, err := parseForwarded(c.line, maxHops); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.line, got, err, c.want)
		}
	}
	for _, line := range []string{
		"192.0.2.43", "for", "for=", "=a", "for=a;for=b", "FOR=a;for=b", `for="a`, `for="a\`, `for="a,b"`, `for="a" b`, `for=a"b"`,
		"for=a=b", "f r=a", "for =a", "for=a b", "for=\"a\x00\"", "for=\"\xff\"", `for="\,"`, `for=", for=192.0.2.1`,
	} {
		if got, err := parseForwarded(line, maxHops); err == nil {
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
		hops, err := parseForwarded(line, maxHops)
		if err != nil || len(hops) == maxHops {
			return
		}
		if len(hops) > strings.Count(line, ",")+1 {
			t.Errorf("%q: %d hops", line, len(hops))
		}
		// A trusted proxy's own hop can be told from anything in front of it.
		more, err := parseForwarded(line+", for=192.0.2.1", maxHops)
		if err != nil || len(more) != len(hops)+1 || more[len(more)-1] != (hop{client: "192.0.2.1"}) || !slices.Equal(more[:len(hops)], hops) {
			t.Errorf("%q with a hop more: %+v, %v", line, more, err)
		}
	})
}

// longForwarded is what a client may write in front of its proxy's word: as
// much as limits.header_bytes lets in, in the shapes that cost most.
func longForwarded() map[string]http.Header {
	lines := make([]string, 4<<10)
	for i := range lines {
		lines[i] = "for=a"
	}
	const bytes = 29 << 10
	return map[string]http.Header{
		"hops":            {"Forwarded": {strings.Repeat("for=a,", bytes/6) + "for=192.0.2.1"}},
		"trusted hops":    {"Forwarded": {strings.Repeat("for=10.0.0.1,", bytes/13) + "for=10.0.0.1"}},
		"lines":           {"Forwarded": lines},
		"empty hops":      {"Forwarded": {strings.Repeat(",", bytes)}},
		"pairs":           {"Forwarded": {strings.Repeat(";", bytes) + "for=192.0.2.1"}},
		"a value":         {"Forwarded": {"for=" + strings.Repeat("a", bytes)}},
		"a quoted value":  {"Forwarded": {`for="` + strings.Repeat(`\a`, bytes/2) + `"`}},
		"a name":          {"Forwarded": {strings.Repeat("a", bytes) + "=a"}},
		"X-Forwarded-For": {"X-Forwarded-For": {strings.Repeat("10.0.0.1,", bytes/9) + "10.0.0.1"}},
	}
}

// TestLongForwardedCostsItsLength: the memory that a header takes, and with it
// the time, is in proportion to its length.
func TestLongForwardedCostsItsLength(t *testing.T) {
	for name, h := range longForwarded() {
		proxies := Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Forwarded: h["Forwarded"] != nil}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = (&Forwarding{For: "10.0.0.9"}).Trust(h, proxies) // refused or not
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Errorf("%s: takes %d bytes of memory", name, got)
		}
	}
}

// TestHopsAreBounded: more of them than any chain of proxies has are refused,
// on one line or on many, in either header.
func TestHopsAreBounded(t *testing.T) {
	list := func(n int, hop string) string { return strings.Repeat(hop+", ", n-1) + hop }
	for _, c := range []struct {
		name string
		h    http.Header
		want string // the header, in the error
	}{
		{"as many hops as there may be", http.Header{"Forwarded": {list(maxHops, "for=192.0.2.1")}}, ""},
		{"on two lines", http.Header{"Forwarded": {list(maxHops-1, "for=192.0.2.1"), "for=192.0.2.1"}}, ""},
		{"a hop more", http.Header{"Forwarded": {list(maxHops+1, "for=192.0.2.1")}}, " Forwarded"},
		{"a hop more on a line of the client's", http.Header{"Forwarded": {list(maxHops, "for=a"), "for=192.0.2.1"}}, " Forwarded"},
		{"as many addresses", http.Header{"X-Forwarded-For": {list(maxHops, "192.0.2.1")}}, ""},
		{"an address more", http.Header{"X-Forwarded-For": {list(maxHops, "192.0.2.1"), "192.0.2.1"}}, " X-Forwarded-For"},
	} {
		f := &Forwarding{For: "10.0.0.9"}
		client, err := f.Trust(c.h, Proxies{Forwarded: c.h["Forwarded"] != nil})
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), "100 hops") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %q, %v; want an error with %q", c.name, client, err, c.want)
			}
		case err != nil || client != "192.0.2.1" || f.For != list(maxHops, "192.0.2.1")+", 10.0.0.9":
			t.Errorf("%s: %q of %q, %v", c.name, client, f.For, err)
		}
	}
}

func BenchmarkLongForwarded(b *testing.B) {
	for name, h := range longForwarded() {
		proxies := Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Forwarded: h["Forwarded"] != nil}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = (&Forwarding{For: "10.0.0.9"}).Trust(h, proxies) // refused or not
			}
		})
	}
}

// FuzzForwardedFor: whatever a client sends, the address that a trusted proxy
// adds is the client.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "127.0.0.1", "10.0.0.1, 10.0.0.2", ",,", "[::1]:80", "::ffff:10.0.0.1", "fe80::1%eth0", "a\"b", "unknown"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, forged string) {
		proxies := Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
		if strings.Count(forged, ",") >= maxHops-3 {
			return
		}
		for _, h := range []http.Header{{"X-Forwarded-For": {forged, "203.0.113.9"}}, {"X-Forwarded-For": {forged + ", 203.0.113.9, 10.0.0.7"}}} {
			if client, err := new(Forwarding).Trust(h, proxies); err != nil || client != "203.0.113.9" {
				t.Errorf("%q: the client is %q, %v", h, client, err)
			}
		}
	})
}
