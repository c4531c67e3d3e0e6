package bridge

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// webCall is a gRPC-Web call of one empty message, as a browser's fetch sends it.
func webCall(t testing.TB, fields ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, strings.NewReader("\x00\x00\x00\x00\x00"))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/grpc-web+proto")
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func answerTo(s *Server, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// names are the lower-case names in all lines of a list.
func names(lines []string) (list []string) {
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			list = append(list, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	slices.Sort(list)
	return list
}

// TestOriginsAreJudgedAlike, whatever they ask for.
func TestOriginsAreJudgedAlike(t *testing.T) {
	address, _ := seenBy(t)
	s := newServer(t, Config{Backend: Backend{Target: address}, ForwardCookies: true, AllowOrigins: []string{"https://app.example.com", `~https://pr-[0-9]+\.example\.com`}})
	call := func(contentType string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Content-Type", contentType) }
	}
	upgrade := func(subprotocol string) func(*http.Request) {
		return func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			r.Header.Set("Sec-Websocket-Protocol", subprotocol)
		}
	}
	ways := map[string]func(*http.Request){
		"grpc-web": call("application/grpc-web+proto"), "grpc-web-text": call("application/grpc-web-text"), "grpc": call("application/grpc"),
		"grpc-websockets": upgrade("grpc-websockets"), "h2ts": upgrade(tunnelName),
		"preflight": func(r *http.Request) {
			r.Method, r.Body = http.MethodOptions, http.NoBody
			r.Header.Set("Access-Control-Request-Method", http.MethodPost)
		},
	}
	for _, c := range []struct {
		fields  []string
		allowed bool
	}{
		{[]string{"Origin", "https://app.example.com"}, true},
		{[]string{"Origin", "https://pr-1.example.com"}, true},
		{[]string{"Origin", "http://localhost", "Sec-Fetch-Site", "same-origin"}, true},
		{[]string{"Origin", "http://localhost", "Sec-Fetch-Site", "cross-site"}, false},
		{[]string{"Origin", "https://evil.example"}, false},
		{[]string{"Origin", "null"}, false},
		{[]string{"Origin", ""}, false},
		{[]string{"Origin", "https://app.example.com", "Origin", "https://evil.example"}, false},
		{[]string{"Origin", "https://app.example.com", "Cookie", "a=1"}, true},
		{[]string{"Origin", "https://evil.example", "Cookie", "a=1", "Sec-Fetch-Site", "same-origin"}, false},
	} {
		for way, prepare := range ways {
			r := webCall(t, c.fields...)
			prepare(r)
			w := answerTo(s, r)
			if refused := w.Code == http.StatusForbidden; refused == c.allowed || refused && !strings.Contains(w.Body.String(), "culvert: ") {
				t.Errorf("%s with %q: answered %d %s, want it allowed: %v", way, c.fields, w.Code, w.Body, c.allowed)
			}
		}
	}
}

// TestVary: each answer that another page would have got another way says so,
// and none says it twice.
func TestVary(t *testing.T) {
	address, _ := seenBy(t)
	s := newServer(t, Config{Backend: Backend{Target: address}, AllowOrigins: []string{"https://app.example.com", "https://*.example.net"}, ForwardCookies: true})
	page, ask := []string{"origin", "sec-fetch-site"}, []string{"access-control-request-headers", "access-control-request-method", "origin", "sec-fetch-site"}
	preflight := func(origin string) *http.Request {
		r := webCall(t, "Origin", origin, "Access-Control-Request-Method", "POST")
		r.Method = http.MethodOptions
		return r
	}
	upgrade := webCall(t, "Origin", "https://evil.example", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Protocol", tunnelName)
	upgrade.Method, upgrade.Body, upgrade.ContentLength = http.MethodGet, http.NoBody, 0
	for name, c := range map[string]struct {
		r    *http.Request
		code int
		want []string
	}{
		"a call of a listed page":     {webCall(t, "Origin", "https://app.example.com"), 200, page},
		"a call that a pattern lets":  {webCall(t, "Origin", "https://a.example.net"), 200, page},
		"a call of no page":           {webCall(t), 200, page},
		"a refused page":              {webCall(t, "Origin", "https://evil.example"), 403, page},
		"two origins":                 {webCall(t, "Origin", "https://app.example.com", "Origin", "https://app.example.com"), 403, page},
		"a page that isn't named":     {webCall(t, "Sec-Fetch-Site", "cross-site"), 403, page},
		"cookies of nobody":           {webCall(t, "Cookie", "a=1"), 403, page},
		"a refused upgrade":           {upgrade, 403, page},
		"a preflight":                 {preflight("https://app.example.com"), 204, ask},
		"a refused page's preflight":  {preflight("https://evil.example"), 403, ask},
		"an opaque page's preflight":  {preflight("null"), 403, ask},
		"a preflight of empty Origin": {preflight(""), 403, ask},
	} {
		w := answerTo(s, c.r)
		if got := names(w.Header()["Vary"]); w.Code != c.code || !slices.Equal(got, c.want) {
			t.Errorf("%s: answered %d with Vary %q, want %d with %q", name, w.Code, got, c.code, c.want)
		}
		if c.code == http.StatusForbidden && (w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("Access-Control-Allow-Credentials") != "") {
			t.Errorf("%s: a page may read the refusal: %v", name, w.Header())
		}
	}
}

// TestTwoOriginsOverTheWire: net/http keeps both lines; an empty one is one.
func TestTwoOriginsOverTheWire(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere, AllowOrigins: []string{"*", "https://app.example.com"}}))
	const call = "POST " + testMethod + " HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: 0\r\n"
	for _, fields := range []string{
		"origin: https://app.example.com\r\norigin: https://app.example.com\r\n",
		"origin: https://app.example.com\r\nOrigin: https://evil.example\r\n",
		"origin:\r\n",
		"origin: https://app.example.com\r\norigin: \r\n",
	} {
		answers := exchange(t, address, call+fields+"\r\n")
		if len(answers) != 1 || answers[0].StatusCode != http.StatusForbidden || !answers[0].Close {
			t.Errorf("%q: got %v, want one 403 that closes", fields, answers)
		}
	}
}

// TestCookiesOfOrigins: cookies reach the backend from listed pages, and from pages
// that the browser reports as the server's own.
func TestCookiesOfOrigins(t *testing.T) {
	address, seen := seenBy(t)
	s := newServer(t, Config{
		Backend: Backend{Target: address}, ForwardCookies: true, Hosts: []string{"grpc.example.com"},
		AllowOrigins: []string{"https://app.example.com", "https://*.example.net", `~https://pr-[0-9]+\.example\.org`, "null"},
	})
	for _, c := range []struct {
		name   string
		fields []string
		code   int
		cookie string
	}{
		{"a listed page", []string{"Origin", "https://app.example.com"}, 200, "a=1"},
		{"a page of hosts", []string{"Origin", "https://grpc.example.com"}, 200, "a=1"},
		{"this server's own page", []string{"Origin", "http://localhost", "Sec-Fetch-Site", "same-origin"}, 200, "a=1"},
		{"a page below a wildcard", []string{"Origin", "https://a.example.net"}, 200, ""},
		{"a page of an expression", []string{"Origin", "https://pr-1.example.org"}, 200, ""},
		{"an opaque page", []string{"Origin", "null"}, 200, ""},
		{"a foreign page", []string{"Origin", "https://evil.example"}, 403, ""},
		{"nobody", nil, 403, ""},
		{"a person", []string{"Sec-Fetch-Site", "none"}, 403, ""},
		{"an unnamed page of the same origin", []string{"Sec-Fetch-Site", "same-origin"}, 200, "a=1"},
		{"an unnamed page of the same site", []string{"Sec-Fetch-Site", "same-site"}, 403, ""},
	} {
		w := answerTo(s, webCall(t, append(c.fields, "Cookie", "a=1")...))
		if w.Code != c.code {
			t.Errorf("%s: answered %d %s, want %d", c.name, w.Code, w.Body, c.code)
			continue
		}
		if c.code == http.StatusOK {
			if got := strings.Join(await(t, "the call", seen)["cookie"], "; "); got != c.cookie {
				t.Errorf("%s: the cookie reached the backend as %q, want %q", c.name, got, c.cookie)
			}
			if credentials := w.Header().Get("Access-Control-Allow-Credentials") == "true"; credentials != (c.cookie != "" && w.Header().Get("Access-Control-Allow-Origin") != "") {
				t.Errorf("%s: with cookies %q the answer has %v", c.name, c.cookie, w.Header())
			}
		}
		if len(seen) > 0 {
			t.Errorf("%s: a refused call reached the backend", c.name)
		}
	}
	// Where no cookie is passed on, one harms nobody.
	deaf := newServer(t, Config{Backend: Backend{Target: address}})
	if w := answerTo(deaf, webCall(t, "Cookie", "a=1")); w.Code != http.StatusOK {
		t.Errorf("a program with cookies that don't cross: answered %d", w.Code)
	}
	wantMetadata(t, await(t, "the call", seen), map[string]string{"cookie": ""})
}

// TestTunnelOriginIsTheOutersInAll: neither Origin nor Sec-Fetch-Site of an
// inner call counts, whatever the outer request left out.
func TestTunnelOriginIsTheOutersInAll(t *testing.T) {
	address, seen := seenBy(t)
	s := newServer(t, Config{Backend: Backend{Target: address}, ForwardCookies: true})
	cc := dialTunnel(t, serve(t, s), http.Header{"Sec-Fetch-Site": {"same-origin"}, "Cookie": {"a=1"}})
	for _, inner := range [][]string{
		{"origin", "https://evil.example"},
		{"sec-fetch-site", "cross-site"},
		{"cookie", "b=2", "origin", "null"},
	} {
		ctx := metadata.NewOutgoingContext(within(t, patience), metadata.Pairs(inner...))
		if err := open(ctx, t, cc, testMethod).RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Errorf("%q: the call ended with %v", inner, err)
		}
		wantMetadata(t, await(t, "the call", seen), map[string]string{"cookie": "a=1"})
	}
}

// TestTunnelWithCookiesOfNobodyIsRefused before there is any.
func TestTunnelWithCookiesOfNobodyIsRefused(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere, ForwardCookies: true}))
	for _, header := range []http.Header{{"Cookie": {"a=1"}}, {"Sec-Fetch-Site": {"same-site"}}} {
		for _, subprotocol := range []string{tunnelName, "grpc-websockets"} {
			_, res, err := websocket.Dial(within(t, patience), "ws://"+address+testMethod, &websocket.DialOptions{
				Subprotocols: []string{subprotocol}, HTTPHeader: header,
			})
			if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
				t.Errorf("%s with %v: got %v and %v, want 403", subprotocol, header, res, err)
			}
		}
	}
}

// TestOriginsAreTriedOut: what would be refused is told, and passes without
// cookies.
func TestOriginsAreTriedOut(t *testing.T) {
	address, seen := seenBy(t)
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: address}, Observer: obs, TryOrigins: true, ForwardCookies: true, LoopbackOnly: true, AllowOrigins: []string{"https://app.example.com"}})
	for _, c := range []struct {
		name         string
		fields       []string
		key, detail  string // of what would be refused; no key: nothing
		cookie, cors string
	}{
		{"a listed page", []string{"Origin", "https://app.example.com"}, "", "", "a=1", "https://app.example.com"},
		{"a foreign page", []string{"Origin", "https://evil.example"}, "allow_origins", "https://evil.example", "", "https://evil.example"},
		{"an opaque page", []string{"Origin", "null"}, "allow_origins", "null", "", "null"},
		{"a page that isn't named", []string{"Sec-Fetch-Site", "cross-site"}, "allow_origins", "", "", ""},
		{"cookies of nobody", nil, "metadata.forward_cookies", "", "", ""},
	} {
		w := answerTo(s, webCall(t, append(c.fields, "Cookie", "a=1")...))
		if w.Code != http.StatusOK || w.Header().Get("Access-Control-Allow-Origin") != c.cors {
			t.Errorf("%s: answered %d with %v, want 200 for %q", c.name, w.Code, w.Header(), c.cors)
		}
		if credentials := w.Header().Get("Access-Control-Allow-Credentials"); (credentials == "true") != (c.cookie != "") {
			t.Errorf("%s: the page may send cookies: %q", c.name, credentials)
		}
		wantMetadata(t, await(t, "the call", seen), map[string]string{"cookie": c.cookie})
		var got []report.Refusal
		for len(obs.refused) > 0 {
			got = append(got, <-obs.refused)
		}
		switch {
		case c.key == "" && len(got) == 0:
		case len(got) == 1 && got[0].Key == c.key && got[0].Detail == c.detail && got[0].ReportOnly && got[0].Reason == report.ReasonOriginDenied:
		default:
			t.Errorf("%s: told %+v, want one of %q that only reports", c.name, got, c.key)
		}
	}
	preflight := webCall(t, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	preflight.Method = http.MethodOptions
	if w := answerTo(s, preflight); w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "https://evil.example" || w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("the preflight was answered %d with %v", w.Code, w.Header())
	}
	// The protection of pages on the same machine is no part of this.
	rebound := webCall(t)
	rebound.Host = "evil.example"
	if w := answerTo(s, rebound); w.Code != http.StatusForbidden {
		t.Errorf("a Host that isn't ours was answered %d", w.Code)
	}
}

// TestMethodsAreTriedOut: all that rules would refuse passes and is told, but
// for what shows the backend's inside.
func TestMethodsAreTriedOut(t *testing.T) {
	address, _ := seenBy(t)
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: address}, Observer: obs, TryMethods: true, AllowMethods: []string{"shop.v1.*/*"}, DenyMethods: []string{"shop.v1.Admin/*"}})
	cc := dial(t, serve(t, s))
	for _, c := range []struct {
		method, key string
		crosses     bool
	}{
		{"/shop.v1.Orders/Get", "", true},
		{"/shop.v1.Admin/Drop", "methods.deny", true},
		{"/other.v1.Orders/Get", "methods.allow", true},
		{"/grpc.channelz.v1.Channelz/GetServers", "methods.allow", false},
	} {
		err := open(within(t, patience), t, cc, c.method).RecvMsg(new([]byte))
		if crossed := errors.Is(err, io.EOF); crossed != c.crosses || !crossed && status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: ended with %v, want it to cross: %v", c.method, err, c.crosses)
		}
		if got := s.MethodAllowed(c.method); got != c.crosses {
			t.Errorf("%s: is said to cross: %v", c.method, got)
		}
		var keys []string
		for len(obs.refused) > 0 {
			r := <-obs.refused
			if r.ReportOnly != c.crosses || r.Reason != report.ReasonNoRoute || r.Detail != c.method {
				t.Errorf("%s: told %+v", c.method, r)
			}
			keys = append(keys, r.Key)
		}
		if want := c.key; strings.Join(keys, " ") != want {
			t.Errorf("%s: told %q, want %q", c.method, keys, want)
		}
	}
}

// TestPreflightOverTheWire is answered before anything else is known, also
// where no method is, and the connection goes on. It grants what may cross.
func TestPreflightOverTheWire(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere, AllowOrigins: []string{"https://app.example.com"}}))
	ask := "OPTIONS /any/where HTTP/1.1\r\nhost: localhost\r\norigin: https://app.example.com\r\naccess-control-request-method: POST\r\naccess-control-request-headers: x-grpc-web, cookie, x-a, x-forwarded-for, host, origin, sec-fetch-mode, te, x-real-ip, grpc-status, culvert-identity\r\n"
	answers := exchange(t, address, ask+"\r\n"+ask+"connection: close\r\n\r\n")
	if len(answers) != 2 {
		t.Fatalf("%d answers to two preflights", len(answers))
	}
	for _, a := range answers {
		if a.StatusCode != http.StatusNoContent || a.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || a.Header.Get("Access-Control-Allow-Headers") != "x-grpc-web, x-a" {
			t.Errorf("got %s %v", a.Status, a.Header)
		}
	}
}

// TestGetsOfForeignNames: over plaintext, a page whose name points here can't read what
// GET returns, and nothing else changes.
func TestGetsOfForeignNames(t *testing.T) {
	reached := make(chan struct{}, 9)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		reached <- struct{}{}
		return echo(ss)
	})
	const query = "?connect=v1&encoding=proto&message=x"
	overTLS := func(r *http.Request) { r.TLS = &tls.ConnectionState{} }
	field := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, c := range map[string]struct {
		host     string
		change   func(*http.Request)
		open     func(*Config)
		accepted bool
	}{
		"a foreign name":                  {"evil.example:8080", nil, nil, false},
		"of another port":                 {"grpc.example.com:1", nil, nil, true},
		"an address":                      {"10.1.2.3:8080", nil, nil, true},
		"over TLS":                        {"evil.example", overTLS, nil, true},
		"of a stranger's proxy":           {"evil.example", field("X-Forwarded-Proto", "https"), nil, false},
		"of a proxy":                      {"evil.example", field("X-Forwarded-Proto", "https"), func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")} }, true},
		"of a proxy in plaintext":         {"evil.example", field("X-Forwarded-Proto", "http"), func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")} }, false},
		"of the same origin":              {"evil.example", field("Sec-Fetch-Site", "same-origin"), nil, true},
		"while hosts is empty":            {"evil.example", nil, func(c *Config) { c.Hosts = nil }, true},
		"while origins are tried out":     {"evil.example", nil, func(c *Config) { c.TryOrigins = true }, true},
		"while all origins may call":      {"evil.example", nil, func(c *Config) { c.AllowOrigins = []string{"*"} }, false},
		"that pretends to be a WebSocket": {"evil.example", field("Upgrade", "websocket"), nil, false},
	} {
		for _, framing := range []string{"", FramingSSE, FramingNDJSON} {
			cfg := Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}, ConnectGet: []string{"*/*"}, Hosts: []string{"grpc.example.com"}}
			target := "/test.Service/Pure" + query
			if framing != "" {
				cfg.Routes = chat(func(r *Route) { r.Message.Framing, r.Message.Method = framing, "test.Service/Pure" })
				target = "/ws/chat"
			}
			if c.open != nil {
				c.open(&cfg)
			}
			r := httptest.NewRequestWithContext(within(t, patience), http.MethodGet, target, nil)
			r.Host = c.host
			if c.change != nil {
				c.change(r)
			}
			w := answerTo(newServer(t, cfg), r)
			if c.accepted != (w.Code == http.StatusOK) || len(reached) != map[bool]int{true: 1}[c.accepted] || !c.accepted && (w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "hosts")) {
				t.Errorf("%s, framing %q: answered %d %q, want it accepted: %v", name, framing, w.Code, w.Body, c.accepted)
			}
			for len(reached) > 0 {
				<-reached
			}
			if c.accepted || framing == "" {
				continue
			}
			post := httptest.NewRequestWithContext(within(t, patience), http.MethodPost, target, strings.NewReader("{}"))
			post.Host = c.host
			post.Header.Set("Content-Type", "application/json")
			if w := answerTo(newServer(t, cfg), post); w.Code != http.StatusOK {
				t.Errorf("%s, framing %q, by POST: answered %d %q", name, framing, w.Code, w.Body)
			}
			<-reached
		}
	}
}
