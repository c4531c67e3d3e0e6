package bridge

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
)

// forwards is what the backend is told of a client.
func forwards(chain, proto, host, via string) gate.Forwarding {
	return gate.Forwarding{For: chain, Proto: proto, Host: host, Via: via}
}

// TestWhoCallsByForwarded: where that is the header to trust, the other counts
// for nothing, and a line that can't be read is not passed over.
func TestWhoCallsByForwarded(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	own := s.edge.Own()
	own.TrustedProxies, own.Forwarded = prefixes(t, "10.0.0.0/8", "fd00::/8"), true
	for _, c := range []struct {
		name  string
		lines []string
		peer  string
		want  gate.Forwarding
	}{
		{"nothing", nil, "10.1.2.3:555", forwards("10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"a client", []string{"for=203.0.113.9;proto=https;host=app.example"}, "203.0.113.9", forwards("203.0.113.9, 10.1.2.3", "https", "app.example", "1.1 culvert")},
		{"a client with a port", []string{`for="203.0.113.9:47011"`}, "203.0.113.9", forwards("203.0.113.9:47011, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"IPv6", []string{`for="[2001:DB8::9]:1"`}, "2001:db8::9", forwards("[2001:DB8::9]:1, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{
			"a chain",
			[]string{"for=198.51.100.6;host=lie", `for=203.0.113.9;proto=https;host=app.example, for="[fd00::7]";proto=http;host=inner`},
			"203.0.113.9",
			forwards("198.51.100.6, 203.0.113.9, [fd00::7], 10.1.2.3", "https", "app.example", "1.1 culvert"),
		},
		{"a liar's line", []string{`for="`, "for=203.0.113.9"}, "203.0.113.9", forwards("203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"nobody", []string{"for=198.51.100.6, by=_x"}, "10.1.2.3:555", forwards("198.51.100.6, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"a hidden one", []string{"for=198.51.100.6, for=_hidden;proto=https"}, "10.1.2.3:555", forwards("198.51.100.6, _hidden, 10.1.2.3", "https", "culvert.example", "1.1 culvert")},
		{"a host that is none", []string{"for=203.0.113.9;host=app.example.."}, "203.0.113.9", forwards("203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"an odd protocol and host", []string{`for=203.0.113.9;proto=gopher;host="a b"`}, "203.0.113.9", forwards("203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
		r.Host, r.RemoteAddr = "culvert.example", "10.1.2.3:555"
		r.Header = http.Header{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"lie"}, "Forwarded": c.lines}
		a := s.arrive(r, s.policy.Load(), nil)
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
	a := s.arrive(r, s.policy.Load(), nil)
	if a.forward.Proto != "https" || a.forward.Host != "app.example" || a.peer.Addr != "fe80::1" {
		t.Errorf("got %+v of %q, want https, app.example of fe80::1", a.forward, a.peer.Addr)
	}
}
