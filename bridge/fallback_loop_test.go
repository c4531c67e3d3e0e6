package bridge

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/fallback"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestWebServerIsCulvert: a loop ends at its second turn, also if it is by way of another
// culvert, which has a token of its own.
func TestWebServerIsCulvert(t *testing.T) {
	first, second := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	o := newWebObserver()
	to := func(ln net.Listener) Config {
		return Config{Backend: nowhere, FallbackURL: "http://" + ln.Addr().String(), Observer: o}
	}
	s := newServer(t, to(first))
	serveListener(t, s, first, Listener{})
	serveListener(t, newServer(t, to(first)), second, Listener{})
	for _, c := range []struct {
		name  string
		to    net.Listener
		turns int
	}{{"itself", first, 2}, {"another", second, 3}} {
		if err := s.Apply(to(c.to)); err != nil {
			t.Fatal(err)
		}
		for version, client := range webClients(t) {
			res, body := send(t, client, newRequest(t, http.MethodGet, "http://"+first.Addr().String()+"/", ""))
			if res.StatusCode != http.StatusLoopDetected || !strings.Contains(body, "leads back") {
				t.Errorf("%s, %s: answered %d %q", c.name, version, res.StatusCode, body)
			}
			refused := 0 // a turn may be reported before the turn inside it
			for range c.turns {
				i := await(t, "a turn", o.web)
				if i.Reason == report.ReasonFallbackLoop && strings.Contains(i.Cause, "fallback") {
					refused++
				}
				if i.Status != http.StatusLoopDetected {
					t.Errorf("%s, %s: %+v", c.name, version, i)
				}
			}
			if refused != 1 {
				t.Errorf("%s, %s: %d turns were refused, want the last", c.name, version, refused)
			}
		}
	}
	if len(o.web) > 0 {
		t.Errorf("%d turns more", len(o.web))
	}
}

// TestTokensOfLoops: a client can't make its request look like one that has come back, nor
// hide that it has, and only tokens reach the web server.
func TestTokensOfLoops(t *testing.T) {
	var got atomic.Value
	to := webServer(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header[fallback.LoopHeader]) })
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to})
	base := "http://" + serve(t, s) + "/"
	const alien = "0123456789abcdef"
	for name, c := range map[string]struct {
		lines  []string
		status int
		want   string // before the own token
	}{
		"none":             {nil, http.StatusOK, ""},
		"no tokens":        {[]string{"x, ,0123456789abcdeg", strings.ToUpper(alien), strings.Repeat("0", 17)}, http.StatusOK, ""},
		"another's":        {[]string{alien}, http.StatusOK, alien + ", "},
		"many":             {[]string{strings.Repeat(alien+",", fallback.MaxTokens-1), "x"}, http.StatusOK, strings.Repeat(alien+", ", fallback.MaxTokens-1)},
		"too many":         {[]string{strings.Repeat(alien+",", fallback.MaxTokens-1), "x", alien}, http.StatusBadRequest, ""},
		"the own":          {[]string{s.loop}, http.StatusLoopDetected, ""},
		"the own, joined":  {[]string{alien + "," + s.loop + ", x"}, http.StatusLoopDetected, ""},
		"the own, on top":  {[]string{s.loop, alien}, http.StatusLoopDetected, ""},
		"the own, too far": {append(slices.Repeat([]string{alien}, 100), s.loop), http.StatusBadRequest, ""},
	} {
		for version, client := range webClients(t) {
			r := newRequest(t, http.MethodGet, base, "")
			r.Header[fallback.LoopHeader] = c.lines
			got.Store([]string(nil))
			res, _ := send(t, client, r)
			want := []string{c.want + s.loop}
			if c.status != http.StatusOK {
				want = nil
			}
			if lines := got.Load().([]string); res.StatusCode != c.status || !slices.Equal(lines, want) {
				t.Errorf("%s, %s: HTTP status %d, and the web server got %q; want %d and %q", name, version, res.StatusCode, lines, c.status, want)
			}
		}
	}
}
