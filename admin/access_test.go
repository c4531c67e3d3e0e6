package admin

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/tries"
)

const (
	secret = "f3b1c2d4e5a697887766554433221100"
	other  = "00112233445566778899aabbccddeeff"
	ownURL = "https://culvert.example:9902"
)

// guarded returns the pages of a culvert that other hosts reach, and its log.
func guarded(t *testing.T) (h http.Handler, a *Access, level *slog.LevelVar, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	c, level := control(t)
	c.Access = &Access{Log: slog.New(slog.NewTextHandler(log, nil))}
	c.Access.SetHosts([]string{"culvert.example", "192.0.2.7", "2001:db8::7"})
	c.Access.SetToken(tokenOf(t, secret))
	return c.Handler(), c.Access, level, log
}

func tokenOf(t *testing.T, text string) Token {
	t.Helper()
	made, err := NewToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// from changes a request into one of another host, over TLS.
func from(edits ...func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		r.Host, r.TLS, r.RemoteAddr = "culvert.example:9902", &tls.ConnectionState{}, "198.51.100.1:1234"
		for _, edit := range edits {
			edit(r)
		}
	}
}

func set(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// asForm changes a request into one that a browser makes of the form.
func asForm(r *http.Request) {
	r.Header.Del(Header)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", ownURL)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
}

func form(token string) string { return url.Values{"token": {token}}.Encode() }

// login returns the cookie of a new session.
func login(t *testing.T, h http.Handler, with string) *http.Cookie {
	t.Helper()
	w := ask(t, h, "POST", "/login", form(with), from(asForm))
	cookies := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" || len(cookies) != 1 {
		t.Fatalf("the form: %d %v %s", w.Code, w.Header(), w.Body)
	}
	return cookies[0]
}

func withCookie(c *http.Cookie) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value}) }
}

// TestOnlyTheTokenOpensTheDoor tries what an attacker would, at every kind of page.
func TestOnlyTheTokenOpensTheDoor(t *testing.T) {
	bearer := func(text string) func(*http.Request) { return set("Authorization", text) }
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	right := bearer("Bearer " + secret)
	for _, x := range []struct {
		about  string
		edits  []func(*http.Request)
		status int // 0: it may
	}{
		{"the token", []func(*http.Request){right}, 0},
		{"the token, in another case of the scheme", []func(*http.Request){bearer("bEARER  " + secret + " ")}, 0},
		{"by address", []func(*http.Request){right, host("192.0.2.7:9902")}, 0},
		{"by IPv6 address", []func(*http.Request){right, host("[2001:db8:0::7]:9902")}, 0},
		{"by IPv6 address, without a port", []func(*http.Request){right, host("[2001:db8::7]")}, 0},
		{"by a forwarded port", []func(*http.Request){right, host("localhost:40000")}, 0},
		{"in capitals", []func(*http.Request){right, host("CULVERT.EXAMPLE")}, 0},
		{"its own page", []func(*http.Request){right, set("Origin", ownURL), set("Sec-Fetch-Site", "same-origin")}, 0},

		{"nothing", nil, 401},
		{"localhost in Host, without the token", []func(*http.Request){host("localhost")}, 401},
		{"another token", []func(*http.Request){bearer("Bearer " + other)}, 401},
		{"an empty token", []func(*http.Request){bearer("Bearer ")}, 401},
		{"an empty header", []func(*http.Request){bearer("")}, 401},
		{"a part of the token", []func(*http.Request){bearer("Bearer " + secret[:31])}, 401},
		{"more than the token", []func(*http.Request){bearer("Bearer " + secret + "0")}, 401},
		{"no scheme", []func(*http.Request){bearer(secret)}, 401},
		{"another scheme", []func(*http.Request){bearer("Basic " + secret)}, 401},
		{"two tokens", []func(*http.Request){func(r *http.Request) {
			r.Header["Authorization"] = []string{"Bearer " + secret, "Bearer " + other}
		}}, 401},
		{"a token in a cookie", []func(*http.Request){withCookie(&http.Cookie{Name: "__Host-culvert-admin", Value: secret})}, 401},
		{"a token in other headers", []func(*http.Request){set("X-Token", secret), set("Proxy-Authorization", "Bearer "+secret)}, 401},
		{"the wrong header beside a right one", []func(*http.Request){bearer("Bearer " + other), set("X-Forwarded-For", "127.0.0.1")}, 401},

		{"a name that rebinds, with the token", []func(*http.Request){right, host("evil.example:9902")}, 403},
		{"a name below", []func(*http.Request){right, host("a.culvert.example:9902")}, 403},
		{"a name around", []func(*http.Request){right, host("culvert.example.evil.example:9902")}, 403},
		{"another address", []func(*http.Request){right, host("192.0.2.8:9902")}, 403},
		{"no Host", []func(*http.Request){right, host("")}, 403},
		{"another site's page, with the token", []func(*http.Request){right, set("Sec-Fetch-Site", "cross-site")}, 403},
		{"another origin, with the token", []func(*http.Request){right, set("Origin", "https://evil.example")}, 403},
		{"its own page over plaintext", []func(*http.Request){right, set("Origin", "http://culvert.example:9902")}, 403},
		{"another port of its own name", []func(*http.Request){right, set("Origin", "https://culvert.example")}, 403},
	} {
		for _, request := range []struct{ method, path, body string }{
			{"GET", "/", ""},
			{"GET", "/config", ""},
			{"GET", "/calls", ""},
			{"GET", "/debug/pprof/heap", ""},
			{"GET", "/none", ""},
			{"GET", "/login/", ""},
			{"GET", "//login", ""},
			{"HEAD", "/status", ""},
			{"OPTIONS", "/log-level", ""},
			{"PUT", "/log-level", "warn"},
			{"POST", "/calls/1/stop", ""},
			{"POST", "/drain", ""},
			{"GET", "/config?token=" + secret + "&access_token=" + secret, ""},
		} {
			h, _, level, log := guarded(t)
			w := ask(t, h, request.method, request.path, request.body, from(x.edits...))
			if x.status == 0 {
				if w.Code == 401 || w.Code == 403 {
					t.Errorf("%s: %s %s answers %d %s", x.about, request.method, request.path, w.Code, w.Body)
				}
				continue
			}
			if w.Code != x.status || level.Level() != slog.LevelInfo || len(w.Header()["Set-Cookie"]) > 0 || !strings.HasPrefix(w.Body.String(), "culvert: ") {
				t.Errorf("%s: %s %s answers %d %s, level %v", x.about, request.method, request.path, w.Code, w.Body, level.Level())
			}
			if challenge := w.Header().Get("WWW-Authenticate"); (w.Code == 401) != (challenge != "") {
				t.Errorf("%s: WWW-Authenticate: %q with %d", x.about, challenge, w.Code)
			}
			if text := w.Body.String() + log.String(); strings.Contains(text, secret) || strings.Contains(text, other) {
				t.Errorf("%s: shows a token: %s", x.about, text)
			}
		}
	}
}

// TestTokenAlsoOnLoopback: a token that is set is wanted from programs on this host, too.
func TestTokenAlsoOnLoopback(t *testing.T) {
	h, a, _, _ := guarded(t)
	if w := ask(t, h, "GET", "/config", "", nil); w.Code != 401 {
		t.Errorf("without the token: %d", w.Code)
	}
	if w := ask(t, h, "GET", "/", "", set("Authorization", "Bearer "+secret)); w.Code != 200 || !strings.Contains(w.Body.String(), "-H 'Authorization: Bearer TOKEN' http://127.0.0.1:9902/") {
		t.Errorf("with the token: %d %s", w.Code, w.Body)
	}
	a.SetToken(Token{})
	if w := ask(t, h, "GET", "/config", "", nil); w.Code != 200 {
		t.Errorf("after its end: %d", w.Code)
	}
	if w := ask(t, h, "GET", "/login", "", nil); w.Code != 404 {
		t.Errorf("/login without a token: %d", w.Code)
	}
	a.SetToken(tokenOf(t, secret))
	// Browsers keep no cookie with the prefix from http://localhost, nor a Secure one everywhere.
	w := ask(t, h, "POST", "/login", form(secret), func(r *http.Request) {
		asForm(r)
		r.Header.Set("Origin", "http://127.0.0.1:9902")
	})
	if got := w.Header().Get("Set-Cookie"); w.Code != 303 || !strings.HasPrefix(got, "culvert-admin=") || strings.Contains(got, "Secure") || !strings.Contains(got, "HttpOnly; SameSite=Strict") {
		t.Errorf("the form over plaintext: %d %q", w.Code, got)
	}
}

// TestForm: a person gets in by the form, and nothing on the way has the token.
func TestForm(t *testing.T) {
	h, _, level, log := guarded(t)
	w := ask(t, h, "GET", "/", "", from(set("Accept", "text/html,*/*;q=0.8"), set("Sec-Fetch-Site", "none")))
	if w.Code != 303 || w.Header().Get("Location") != "/login" {
		t.Errorf("a browser: %d %v", w.Code, w.Header())
	}
	w = ask(t, h, "GET", "/login", "", from())
	policy := w.Header().Get("Content-Security-Policy")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `<form method="post" action="/login">`) || strings.Contains(w.Body.String(), "<script") {
		t.Errorf("the form: %d %s", w.Code, w.Body)
	}
	for _, directive := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
		if !strings.Contains(policy, directive) {
			t.Errorf("the form's policy lacks %s: %s", directive, policy)
		}
	}
	if w.Header().Get("X-Frame-Options") != "DENY" || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Referrer-Policy") == "no-referrer" {
		t.Errorf("the form's header: %v", w.Header())
	}

	cookie := login(t, h, " "+secret+"\r\n") // as it may be pasted
	if cookie.Name != "__Host-culvert-admin" || !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge <= 0 || len(cookie.Value) != 43 {
		t.Errorf("the cookie: %+v", cookie)
	}
	if strings.Contains(cookie.Value, secret) || strings.Contains(log.String(), secret) || strings.Contains(log.String(), cookie.Value) {
		t.Errorf("a secret is shown: %v %s", cookie, log)
	}
	if w := ask(t, h, "GET", "/config", "", from(withCookie(cookie))); w.Code != 200 {
		t.Errorf("with the cookie: %d", w.Code)
	}

	// A cookie alone changes nothing: another page could have it sent.
	for _, x := range []struct {
		about  string
		edits  []func(*http.Request)
		status int
	}{
		{"without the header", []func(*http.Request){func(r *http.Request) { r.Header.Del(Header) }}, 403},
		{"of another site", []func(*http.Request){set("Sec-Fetch-Site", "cross-site")}, 403},
		{"of a sibling", []func(*http.Request){set("Sec-Fetch-Site", "same-site")}, 403},
		{"of another origin", []func(*http.Request){set("Origin", "https://evil.example")}, 403},
		{"of a frame without origin", []func(*http.Request){set("Origin", "null")}, 403},
		{"of its own page", []func(*http.Request){set("Origin", ownURL), set("Sec-Fetch-Site", "same-origin")}, 200},
	} {
		level.Set(slog.LevelInfo)
		w := ask(t, h, "PUT", "/log-level", "warn", from(append(x.edits, withCookie(cookie))...))
		if w.Code != x.status || (level.Level() == slog.LevelWarn) != (x.status == 200) {
			t.Errorf("a change %s: %d, level %v", x.about, w.Code, level.Level())
		}
	}
	// Nor does a cookie help a wrong token.
	if w := ask(t, h, "GET", "/config", "", from(withCookie(cookie), set("Authorization", "Bearer "+other))); w.Code != 401 {
		t.Errorf("a cookie and a wrong token: %d", w.Code)
	}
	// The name without the prefix could be set by another host of the domain.
	if w := ask(t, h, "GET", "/config", "", from(withCookie(&http.Cookie{Name: "culvert-admin", Value: cookie.Value}))); w.Code != 401 {
		t.Errorf("the cookie without the prefix: %d", w.Code)
	}
	// A tossed cookie beside the right one keeps nobody out.
	if w := ask(t, h, "GET", "/config", "", from(withCookie(&http.Cookie{Name: cookie.Name, Value: "x"}), withCookie(cookie))); w.Code != 200 {
		t.Errorf("a second cookie: %d", w.Code)
	}
}

// TestFormRefusesOtherPages: another site can neither log a browser in nor out.
func TestFormRefusesOtherPages(t *testing.T) {
	h, _, _, _ := guarded(t)
	cookie := login(t, h, secret)
	for about, edits := range map[string][]func(*http.Request){
		"of another site":           {asForm, set("Sec-Fetch-Site", "cross-site"), set("Origin", "https://evil.example")},
		"of another origin":         {asForm, set("Origin", "https://evil.example")},
		"of a frame":                {asForm, set("Origin", "null")},
		"that says nothing":         {asForm, func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") }},
		"of a name that rebinds":    {asForm, func(r *http.Request) { r.Host = "evil.example:9902" }, set("Origin", "https://evil.example:9902")},
		"of its own over plaintext": {asForm, set("Origin", "http://culvert.example:9902")},
	} {
		for _, path := range []string{"/login", "/logout"} {
			if w := ask(t, h, "POST", path, form(secret), from(append(edits, withCookie(cookie))...)); w.Code != 403 || len(w.Header()["Set-Cookie"]) > 0 {
				t.Errorf("%s %s: %d %v", path, about, w.Code, w.Header())
			}
		}
	}
	if w := ask(t, h, "GET", "/config", "", from(withCookie(cookie))); w.Code != 200 {
		t.Errorf("the session: %d", w.Code)
	}
	for _, method := range []string{"PUT", "DELETE", "OPTIONS"} {
		if w := ask(t, h, method, "/login", form(secret), from(asForm)); w.Code != 405 || w.Header().Get("Allow") == "" {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	if w := ask(t, h, "GET", "/logout", "", from(withCookie(cookie))); w.Code != 405 {
		t.Errorf("GET /logout: %d", w.Code) // an image could ask for it
	}
}

func TestFormTakesOneTokenFromItsBody(t *testing.T) {
	h, _, _, _ := guarded(t)
	for about, x := range map[string]struct {
		path, body string
		edit       func(*http.Request)
		status     int
	}{
		"no body":           {"/login", "", nil, 400},
		"in the query":      {"/login?token=" + secret, "", nil, 400},
		"two tokens":        {"/login", form(secret) + "&" + form(other), nil, 400},
		"another type":      {"/login", form(secret), set("Content-Type", "text/plain"), 400},
		"in parts":          {"/login", "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n" + secret + "\r\n--x--\r\n", set("Content-Type", "multipart/form-data; boundary=x"), 400},
		"malformed":         {"/login", "token=%zz", nil, 400},
		"a body too long":   {"/login", form(secret) + "&a=" + strings.Repeat("a", maxLogin), nil, 400},
		"another token":     {"/login", form(other), nil, 403},
		"an empty token":    {"/login", form(""), nil, 403},
		"the longest token": {"/login", form(strings.Repeat("%", maxToken)), nil, 403},
	} {
		w := ask(t, h, "POST", x.path, x.body, from(asForm, func(r *http.Request) {
			if x.edit != nil {
				x.edit(r)
			}
		}))
		if w.Code != x.status || len(w.Header()["Set-Cookie"]) > 0 || !strings.Contains(w.Body.String(), `role="alert"`) || strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: %d %s", about, w.Code, w.Body)
		}
	}
}

// TestSessionsEnd: a cookie that an attacker has copied is worth nothing after a logout, a new
// token or 12 hours.
func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a, _, log := guarded(t)
		may := func(c *http.Cookie) bool { return ask(t, h, "GET", "/config", "", from(withCookie(c))).Code == 200 }
		first, second := login(t, h, secret), login(t, h, secret)
		w := ask(t, h, "POST", "/logout", "", from(asForm, withCookie(first)))
		if gone := w.Header().Get("Set-Cookie"); w.Code != 303 || !strings.HasPrefix(gone, first.Name+"=; ") || !strings.Contains(gone, "Max-Age=0") {
			t.Errorf("logout: %d %q", w.Code, gone)
		}
		if may(first) || !may(second) {
			t.Error("logout ends one session, and no other")
		}
		// A program's way: the header.
		if w := ask(t, h, "POST", "/logout", "", from(withCookie(second))); w.Code != 303 || may(second) {
			t.Errorf("logout with the header: %d", w.Code)
		}

		third := login(t, h, secret)
		a.SetToken(tokenOf(t, secret)) // the same
		if !may(third) {
			t.Error("the same token once more ended the session")
		}
		a.SetToken(tokenOf(t, other))
		if may(third) || !strings.Contains(log.String(), "admin token replaced") {
			t.Errorf("a new token didn't end the session: %s", log)
		}
		if w := ask(t, h, "POST", "/login", form(secret), from(asForm)); w.Code != 403 {
			t.Errorf("the token of before: %d", w.Code)
		}

		fourth := login(t, h, other)
		time.Sleep(sessionTime - time.Second)
		if !may(fourth) {
			t.Error("the session ended early")
		}
		time.Sleep(time.Second)
		if may(fourth) {
			t.Error("the session didn't end")
		}

		// A login replaces the browser's own session.
		fifth := login(t, h, other)
		w = ask(t, h, "POST", "/login", form(other), from(asForm, withCookie(fifth)))
		if w.Code != 303 || may(fifth) || !may(w.Result().Cookies()[0]) {
			t.Errorf("a second login of a browser: %d", w.Code)
		}
	})
}

// TestSessionsAreBounded: one more ends the oldest.
func TestSessionsAreBounded(t *testing.T) {
	var s sessions
	now := time.Now()
	ids := make([]string, maxSessions+1)
	for i := range ids {
		ids[i] = s.begin(now.Add(time.Duration(i)))
	}
	if len(s.began) != maxSessions || s.has(ids[0], now) || !s.has(ids[1], now) || !s.has(ids[maxSessions], now) {
		t.Errorf("%d sessions", len(s.began))
	}
	s.begin(now.Add(sessionTime + maxSessions/2)) // the ends of those before make room
	if s.has(ids[1], now) || len(s.began) >= maxSessions {
		t.Errorf("%d sessions after the end of some", len(s.began))
	}
}

// TestGuesses: of 10,000 guesses of an address, few are judged. The right token of another
// address gets through, and so does a session.
func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a, _, log := guarded(t)
		cookie := login(t, h, secret)
		at := func(address string) func(*http.Request) {
			return func(r *http.Request) { r.RemoteAddr = address }
		}
		statuses := make(map[int]int)
		for i := range 5000 {
			w := ask(t, h, "GET", "/config", "", from(set("Authorization", fmt.Sprintf("Bearer %032d", i)), at(fmt.Sprintf("203.0.113.9:%d", 1+i))))
			statuses[w.Code]++
			w = ask(t, h, "POST", "/login", form(fmt.Sprintf("%032d", i)), from(asForm, at(fmt.Sprintf("203.0.113.9:%d", 1+i))))
			statuses[w.Code]++
		}
		if statuses[401]+statuses[403] != guessShare.AtOnce || statuses[429] != 10000-guessShare.AtOnce {
			t.Errorf("answers: %v", statuses)
		}
		if lines := strings.Count(log.String(), "refused a wrong admin token"); lines == 0 || lines > guessShare.AtOnce {
			t.Errorf("%d lines in the log", lines)
		}
		// The address learns nothing from then on: not even of the right token.
		w := ask(t, h, "GET", "/config", "", from(set("Authorization", "Bearer "+secret), at("203.0.113.9:1")))
		if w.Code != 429 || w.Header().Get("Retry-After") != "6" {
			t.Errorf("the right token among guesses: %d, Retry-After: %s", w.Code, w.Header().Get("Retry-After"))
		}
		if w := ask(t, h, "GET", "/config", "", from(withCookie(cookie), at("203.0.113.9:1"))); w.Code != 200 {
			t.Errorf("a session at the address: %d", w.Code)
		}
		if w := ask(t, h, "GET", "/config", "", from(set("Authorization", "Bearer "+secret))); w.Code != 200 {
			t.Errorf("the right token of another address: %d", w.Code)
		}
		time.Sleep(guessShare.Every)
		if w := ask(t, h, "GET", "/config", "", from(set("Authorization", "Bearer "+secret), at("203.0.113.9:1"))); w.Code != 200 {
			t.Errorf("the right token after the wait: %d", w.Code)
		}
		if strings.Contains(log.String(), secret) || a.guesses.Wait(guesser("203.0.113.10:1"), time.Now()) != 0 {
			t.Errorf("the log: %s", log)
		}
	})
}

// TestGuesserOfAnAddress: a unix socket's clients have one count.
func TestGuesserOfAnAddress(t *testing.T) {
	if guesser("[::ffff:192.0.2.1]:1") != guesser("192.0.2.1:2") || guesser("@") != guesser("") {
		t.Error("one address has two counts")
	}
}

func TestTokensHaveARightForm(t *testing.T) {
	for text, says := range map[string]string{
		secret:                     "",
		"\ufeff" + secret + "\r\n": "",
		"abcdefgh01234567":         "",
		"":                         "is empty",
		" \n":                      "is empty",
		"abcdefgh0123456":          "only 15 characters",
		secret + "\n" + other:      "one token alone",
		"Bearer " + secret:         "one token alone",
		"tökentökentökentöken":     "one token alone",
		"abababababababababab":     "only 2 different",
		strings.Repeat(secret, 17): "more than 512",
	} {
		made, err := NewToken(text)
		switch {
		case says == "" && (err != nil || !made.is(strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")))):
			t.Errorf("%.40q: %v", text, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says) || len(text) > 8 && strings.Contains(err.Error(), text[:8])):
			t.Errorf("%.40q: %v, want %q", text, err, says)
		case says != "" && (made.is(text) || made.is("")):
			t.Errorf("%.40q is a token", text)
		}
	}
	if (Token{}).is("") {
		t.Error("no token is the empty one")
	}
	if shown := fmt.Sprintf("%v %+v %#v", tokenOf(t, secret), tokenOf(t, secret), tokenOf(t, secret)); strings.Contains(shown, secret) {
		t.Errorf("printed: %s", shown)
	}
}

// TestNoSessionOfTheOldToken: SetToken can't come between the judgement of a form and its session,
// which would outlast it.
func TestNoSessionOfTheOldToken(t *testing.T) {
	a := &Access{Log: slog.New(slog.DiscardHandler)}
	a.SetToken(tokenOf(t, secret))
	entered := false
	right, _ := a.judge("", secret, func() {
		entered = true
		if a.mu.TryLock() {
			t.Error("SetToken could come before the session begins")
			a.mu.Unlock()
		}
	})
	if !right || !entered {
		t.Error("the token isn't right")
	}
	a.judge("", other, func() { t.Error("another token lets somebody in") })
}

// TestAccessConcurrently: a token is replaced while callers come. With -race.
func TestAccessConcurrently(t *testing.T) {
	c, _ := control(t)
	c.Access = &Access{Log: slog.New(slog.DiscardHandler)}
	c.Access.SetToken(tokenOf(t, secret))
	h := c.Handler()
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			for range 50 {
				switch i {
				case 0:
					c.Access.SetToken(tokenOf(t, other))
					c.Access.SetHosts([]string{"culvert.example"})
				case 1:
					ask(t, h, "POST", "/login", form(other), from(asForm))
				default:
					ask(t, h, "GET", "/log-level", "", from(set("Authorization", "Bearer "+secret)))
				}
			}
		})
	}
	running.Wait()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "GET", ownURL+"/log-level", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+other)
	h.ServeHTTP(w, r)
	if w.Code != 200 {
		body, _ := io.ReadAll(w.Body)
		t.Errorf("the new token: %d %s", w.Code, body)
	}
}

// FuzzAccess: whatever the header of a request is, nobody gets in without the token.
func FuzzAccess(f *testing.F) {
	for _, seed := range [][4]string{
		{"Bearer x", "__Host-culvert-admin=x", "culvert.example", "/config"},
		{"", "__Host-culvert-admin=", "localhost", "/login"},
		{"Bearer", "=;,", "[::1]:9902", "/login/../config"},
		{"Bearer " + other, `__Host-culvert-admin="a b"; x`, "culvert.example:0", "/logout"},
		{"bearer \x00", "a=b; __Host-culvert-admin=x; __Host-culvert-admin=y", "[2001:db8::7]", "//"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[3])
	}
	a := &Access{Log: slog.New(slog.DiscardHandler)}
	a.SetHosts([]string{"culvert.example"})
	made, err := NewToken(secret)
	if err != nil {
		f.Fatal(err)
	}
	a.SetToken(made)
	session := a.sessions.begin(time.Now())
	h := guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }), a)
	f.Fuzz(func(t *testing.T, authorization, cookie, host, path, body string) {
		if strings.Contains(authorization, secret) || strings.Contains(cookie, session) {
			return
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
			r.URL.Path, r.Host, r.TLS, r.RemoteAddr = path, host, &tls.ConnectionState{}, ""
			r.Header = http.Header{"Cookie": {cookie}, Header: {"1"}, "Content-Type": {"application/x-www-form-urlencoded"}}
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code == http.StatusTeapot || path == loginPath && len(w.Header()["Set-Cookie"]) > 0 && !strings.Contains(body, secret) {
				t.Errorf("%s %q with %q, %q for %q got in: %d", method, path, authorization, cookie, host, w.Code)
			}
			a.guesses = tries.Tries{} // each guess is judged
		}
	})
}
