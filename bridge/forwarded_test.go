package bridge

import (
	"net/http"
	"net/http/httptest"
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
		l := &listening{Listener: Listener{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
		for _, h := range []http.Header{{"X-Forwarded-For": {forged, "203.0.113.9"}}, {"X-Forwarded-For": {forged + ", 203.0.113.9, 10.0.0.7"}}} {
			a := &arrival{}
			if err := a.trust(h, l); err != nil || a.peer.Addr != "203.0.113.9" {
				t.Errorf("%q: the client is %q, %v", h, a.peer.Addr, err)
			}
		}
	})
}

// TestWhoCallsByForwarded: where that is the header to trust, the other counts
// for nothing, and a line that can't be read is not passed over.
func TestWhoCallsByForwarded(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	s.own.TrustedProxies, s.own.Forwarded = prefixes(t, "10.0.0.0/8", "fd00::/8"), true
	for _, c := range []struct {
		name  string
		lines []string
		peer  string
		want  forwarding
	}{
		{"nothing", nil, "10.1.2.3:555", forwarding{"10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"a client", []string{"for=203.0.113.9;proto=https;host=app.example"}, "203.0.113.9", forwarding{"203.0.113.9, 10.1.2.3", "https", "app.example", "1.1 culvert"}},
		{"a client with a port", []string{`for="203.0.113.9:47011"`}, "203.0.113.9", forwarding{"203.0.113.9:47011, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"IPv6", []string{`for="[2001:DB8::9]:1"`}, "2001:db8::9", forwarding{"[2001:DB8::9]:1, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{
			"a chain",
			[]string{"for=198.51.100.6;host=lie", `for=203.0.113.9;proto=https;host=app.example, for="[fd00::7]";proto=http;host=inner`},
			"203.0.113.9",
			forwarding{"198.51.100.6, 203.0.113.9, [fd00::7], 10.1.2.3", "https", "app.example", "1.1 culvert"},
		},
		{"a liar's line", []string{`for="`, "for=203.0.113.9"}, "203.0.113.9", forwarding{"203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"nobody", []string{"for=198.51.100.6, by=_x"}, "10.1.2.3:555", forwarding{"198.51.100.6, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"a hidden one", []string{"for=198.51.100.6, for=_hidden;proto=https"}, "10.1.2.3:555", forwarding{"198.51.100.6, _hidden, 10.1.2.3", "https", "culvert.example", "1.1 culvert"}},
		{"a host that is none", []string{"for=203.0.113.9;host=app.example.."}, "203.0.113.9", forwarding{"203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"an odd protocol and host", []string{`for=203.0.113.9;proto=gopher;host="a b"`}, "203.0.113.9", forwarding{"203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
		r.Host, r.RemoteAddr = "culvert.example", "10.1.2.3:555"
		r.Header = http.Header{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"lie"}, "Forwarded": c.lines}
		a := s.arrive(r)
		if a.peer.Addr != c.peer || a.forward != c.want || a.unreadable != nil {
			t.Errorf("%s: got %q, %+v, %v; want %q, %+v", c.name, a.peer.Addr, a.forward, a.unreadable, c.peer, c.want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
	r.RemoteAddr = "10.1.2.3:555"
	r.Header["Forwarded"] = []string{`for=", for=203.0.113.9`}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "RFC 7239") {
		t.Errorf("a line that can't be read is answered %d %q", w.Code, w.Body)
	}
}

// TestLastWordOfAProxyCounts: it stands behind what its client sent.
func TestLastWordOfAProxyCounts(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, TrustedProxies: prefixes(t, "10.0.0.0/8")})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
	r.RemoteAddr = "10.1.2.3:555"
	r.Header = http.Header{
		"X-Forwarded-Proto": {"http", "gopher, HTTPS"}, "X-Forwarded-Host": {"lie.example", "lie.example, app.example"},
		"X-Forwarded-For": {"fe80::1%eth0"}, "Forwarded": {"for=1.1.1.1"},
	}
	a := s.arrive(r)
	if a.forward.proto != "https" || a.forward.host != "app.example" || a.peer.Addr != "fe80::1" {
		t.Errorf("got %+v of %q, want https, app.example of fe80::1", a.forward, a.peer.Addr)
	}
}
