package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
)

// An application is a small web application whose users have sessions.
type application struct {
	*httptest.Server
	key *ecdsa.PrivateKey // of the tokens in its cookies

	mu       sync.Mutex
	sessions map[string]string // users by the cookie's value
	asked    []*http.Request   // by culvert
}

const cookieName = "__Host-session"

func startApplication(t *testing.T) *application {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &application{key: key, sessions: map[string]string{"s1": "alice"}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /internal/session", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked = append(a.asked, r)
		cookie, err := r.Cookie(cookieName)
		if err != nil || a.sessions[cookie.Value] == "" {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte("sign in first")) // the client's end shows it
			return
		}
		w.Header().Set("X-Culvert-Subject", a.sessions[cookie.Value])
		w.Header().Set("X-User-Id", "17")
	})
	mux.HandleFunc("GET /internal/keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}}}) // likewise
	})
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

// token returns the value of a cookie that needs no session.
func (a *application) token(t *testing.T, user string, lifetime time.Duration) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: a.key}, (&jose.SignerOptions{}).WithHeader("kid", "one").WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: "https://app.example.com", Subject: user, Audience: jwt.Audience{"orders"}, Expiry: jwt.NewNumericDate(time.Now().Add(lifetime))}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// startWithApplication starts culvert with a configuration of the page before the application.
func startWithApplication(t *testing.T, config string, a *application) (*program, *client) {
	t.Helper()
	config, c := secure(t, config, "app.example.com")
	culvert := startCulvert(t, with(t, config, "http://localhost:3000", a.URL, "hosts: [app.example.com]", "hosts: [app.example.com]\nallow_origins: [https://shop.example.com, 'https://*.example.org']"))
	c.address = culvert.address
	return culvert, c
}

// asPage calls as browsers do for a page of an origin, with a cookie unless it is empty: by
// gRPC-Web, and by a WebSocket.
func asPage(t *testing.T, c *client, origin, cookie string) map[string]outcome {
	t.Helper()
	site := "cross-site"
	if strings.HasSuffix(origin, ".example.com") {
		site = "same-site"
	}
	if origin == "https://app.example.com" {
		site = "same-origin"
	}
	md := []string{"origin", origin, "sec-fetch-site", site}
	page := *c
	page.upgrade = http.Header{"Origin": {origin}, "Sec-Fetch-Site": {site}}
	if cookie != "" {
		md = append(md, "cookie", cookieName+"="+cookie)
		page.upgrade.Set("Cookie", cookieName+"="+cookie)
	}
	return map[string]outcome{
		"grpc-web":        page.call(t, "grpc-web", "shop.v1.Orders/Get", md...),
		"grpc-websockets": page.call(t, "grpc-websockets", "shop.v1.Orders/Get"),
		"h2ts+grpc":       page.call(t, "h2ts+grpc", "shop.v1.Orders/Get"),
	}
}

const (
	ownPage    = "https://app.example.com"
	listedPage = "https://shop.example.com"
	pagesAlike = "https://a.example.org" // of a pattern
)

// TestSessions: culvert asks the application about its sessions.
func TestSessions(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "cookies.md")
	a := startApplication(t)
	culvert, c := startWithApplication(t, g.block(t, "yaml", 0), a)
	for _, origin := range []string{ownPage, listedPage} {
		for way, got := range asPage(t, c, origin, "s1") {
			if got.code != codes.OK || got.got("x-culvert-subject") != "alice" || got.got("x-user-id") != "17" || got.got("cookie") != "" {
				t.Errorf("%s from %s: %v", way, origin, got)
			}
		}
	}
	for way, got := range asPage(t, c, ownPage, "s2") {
		if got.code != codes.Unauthenticated || got.message != "sign in first" {
			t.Errorf("%s without a session: %v", way, got)
		}
	}
	for way, got := range asPage(t, c, pagesAlike, "s1") {
		if got.code != codes.Unauthenticated {
			t.Errorf("%s from a page that only a pattern allows: %v", way, got)
		}
	}
	// What isn't a call is the application's business.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.base("http")+"/internal/keys", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.http().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if closed(t, res.Body); res.StatusCode != http.StatusOK {
		t.Errorf("a request for the application: %s", res.Status)
	}
	// A program's own headers don't replace what culvert says, nor its answer's.
	got := c.call(t, "grpc-web", "shop.v1.Orders/Get", "cookie", cookieName+"=s1", "sec-fetch-site", "same-origin", "x-user-id", "1", "x-culvert-subject", "root", "x-forwarded-uri", "/public")
	if got.code != codes.OK || got.got("x-user-id") != "17" || got.got("x-culvert-subject") != "alice" {
		t.Errorf("with forged headers: %v", got)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.asked {
		for name, want := range map[string]string{"X-Forwarded-Uri": "/shop.v1.Orders/Get", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1", "Authorization": ""} {
			if got := strings.Join(r.Header[name], ","); got != want {
				t.Errorf("the application gets %s %q, want %q", name, got, want)
			}
		}
	}
	culvert.logged(t, "call", map[string]string{"identity": "alice", "code": "OK"})
	culvert.hides(t, cookieName)
}

// TestApplicationIsGone: nobody can judge a session.
func TestApplicationIsGone(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "cookies.md")
	a := startApplication(t)
	_, c := startWithApplication(t, g.block(t, "yaml", 0), a)
	a.Close()
	for way, got := range asPage(t, c, ownPage, "s1") {
		if got.code != codes.Unavailable {
			t.Errorf("%s: %v", way, got)
		}
		g.explains(t, got.message)
	}
}

// TestTokenInACookie: culvert verifies the cookie's token with the application's keys.
func TestTokenInACookie(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "cookies.md")
	a := startApplication(t)
	culvert, c := startWithApplication(t, g.block(t, "yaml", 1), a)
	good, late := a.token(t, "alice", time.Hour), a.token(t, "alice", -time.Hour)
	for _, origin := range []string{ownPage, listedPage} {
		for way, got := range asPage(t, c, origin, good) {
			if got.code != codes.OK || got.got("x-culvert-subject") != "alice" || got.got("cookie") != "" {
				t.Errorf("%s from %s: %v", way, origin, got)
			}
		}
	}
	for cookie, origin := range map[string]string{"": ownPage, late: ownPage, "x.y.z": ownPage, good: pagesAlike} {
		for way, got := range asPage(t, c, origin, cookie) {
			if got.code != codes.Unauthenticated {
				t.Errorf("%s from %s with the cookie %q: %v", way, origin, cookie, got)
			}
			if cookie == "" || origin == pagesAlike {
				g.explains(t, got.message)
			}
		}
	}
	g.wasSeen(t, "the authorization service gave no usable answer; try again later")
	culvert.hides(t, good, late)
}
