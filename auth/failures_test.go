package auth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/tries"
)

// TestBadTokensBuyNoVerifications: behind its share, an address gets no signature verified,
// neither for bad tokens nor for new ones; tokens that are known go on.
func TestBadTokensBuyNoVerifications(t *testing.T) {
	issuer := staff(t)
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Issuers: []Issuer{issuer}, Certificates: true})
		known := aCall{own: "Bearer " + staffToken(nil)}
		wantJudged(t, a, known, "alice")
		bad := func(n int) aCall {
			return aCall{own: "Bearer " + sign(strangeKey(), `{"alg":"ES256","kid":"staff"}`, claims{"n": n}.over(usualClaims(staffIssuer, "alice")))}
		}
		for i := range failureShare.AtOnce {
			wantJudged(t, a, bad(i), unauthenticated)
		}
		f := faultOfCall(t, a, bad(-1))
		if f.Reason != report.ReasonLimitExceeded || f.HTTPStatus() != 429 || f.Retry <= 0 || f.Key != report.KeyAuthIssuers {
			t.Errorf("over its share: %+v", f)
		}
		wantJudged(t, a, aCall{own: "Bearer " + staffToken(claims{"sub": "carol"})}, limited)
		wantJudged(t, a, known, "alice")
		wantJudged(t, a, aCall{own: "Bearer garbage"}, unauthenticated) // costs nothing to refuse
		wantJudged(t, a, aCall{own: "Bearer a.b.c"}, limited)
		other := aCall{own: "Bearer " + staffToken(claims{"sub": "dave"})}.request(t, a)
		other.Peer.Addr = "198.51.100.1:1"
		if got := verdict(a.Authenticate(t.Context(), other)); got != "dave" {
			t.Errorf("another address: got %s", got)
		}
		if i := slices.IndexFunc(a.State().Refused, func(r RefusedState) bool { return r.Reason == report.ReasonLimitExceeded }); a.State().Refused[i].Issuer != "" {
			t.Errorf("the state says whose the unread tokens are: %+v", a.State().Refused)
		}
		if got := a.State().Tokens.Unverified; got != 3 {
			t.Errorf("%d tokens weren't looked at, want 3", got)
		}
		time.Sleep(failureRetry)
		wantJudged(t, a, aCall{own: "Bearer " + staffToken(claims{"sub": "carol"})}, "carol")
	})
}

// TestFailuresOutliveAReload, or a reload would give an attacker a new share.
func TestFailuresOutliveAReload(t *testing.T) {
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}})
	for i := range failureShare.AtOnce + 20 { // its share grows meanwhile
		_, _ = judged(t, a, aCall{own: "Bearer " + sign(strangeKey(), `{"alg":"ES256","kid":"staff"}`, claims{"jti": fmt.Sprint(i)}.over(usualClaims(staffIssuer, "alice")))})
	}
	b := newAfter(t, Config{Issuers: []Issuer{staff(t)}}, a)
	if b.failures != a.failures {
		t.Error("the failures are forgotten")
	}
}

// TestWhatCountsAgainstAnAddress: what costs more than to refuse a call.
func TestWhatCountsAgainstAnAddress(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	var j judge
	issuers, external := []Issuer{staff(t)}, j.serveGRPC(t)
	tokens, both, asks := Config{Issuers: issuers}, Config{Issuers: issuers, APIKeys: keys, Cookie: "sid"}, Config{External: external}
	of := func(header string, c claims) string {
		return "Bearer " + sign(staffKey(), header, c.over(usualClaims(staffIssuer, "alice")))
	}
	mallory := aCall{own: "Bearer secret-mallory"}
	for name, row := range map[string]struct {
		cfg    Config
		good   string // authorization that the service permits before
		bad    aCall
		counts bool
	}{
		"an unknown kid":           {tokens, "", aCall{own: of(`{"alg":"ES256","kid":"x"}`, nil)}, true},
		"no algorithm":             {tokens, "", aCall{own: of(`{"alg":"none"}`, nil)}, true},
		"garbage":                  {tokens, "", aCall{own: "Bearer a.b.c"}, true},
		"another issuer":           {tokens, "", aCall{own: of(es256, claims{"iss": "x"})}, true},
		"in a cookie":              {both, "", aCall{ownCookie: "sid=a.b.c"}, true},
		"behind a damaged key":     {both, "", aCall{own: "Bearer " + key["ci"][:50], ownCookie: "sid=a.b.c"}, false}, // isn't read
		"an unknown API key":       {both, "", aCall{key: strings.Repeat("k", 40)}, false},
		"an opaque token":          {tokens, "", aCall{own: "Bearer opaque"}, false},
		"asked about":              {asks, "", aCall{own: "Bearer opaque"}, true},
		"asked about, denied":      {asks, "", mallory, true},
		"asked about, nothing":     {asks, "", aCall{}, true},
		"known, denied":            {asks, "Bearer secret-alice", aCall{own: "Bearer secret-alice", method: "/shop.v1.Admin/Get"}, false},
		"identified, denied":       {Config{APIKeys: keys, External: external, AllOf: []string{WayAPIKeys, WayExternal}}, "", aCall{key: key["ci"], own: mallory.own}, false},
		"of another issuer, right": {Config{Issuers: issuers, External: external}, "", aCall{own: of(es256, claims{"iss": "x"}), ownCookie: "sid=secret-alice"}, false},
	} {
		a := newAuth(t, row.cfg)
		if row.good != "" {
			wantJudged(t, a, aCall{own: row.good}, "alice")
		}
		most := 2 * failureShare.AtOnce
		if row.counts {
			most *= 50 // its share grows meanwhile
		}
		got := ""
		for i := 0; i < most && got != limited; i++ {
			got, _ = judged(t, a, row.bad)
		}
		if (got == limited) != row.counts {
			t.Errorf("%s: the last call gets %s", name, got)
		}
		j.asked()
		if got, _ := judged(t, a, row.bad); got == limited && len(j.asked()) > 0 {
			t.Errorf("%s: the service is asked by an address over its share", name)
		}
	}
}

// useUp uses up the share of the calls' address.
func useUp(a *Authenticator) {
	later := time.Now().Add(time.Hour) // until then, none of it comes back
	for range failureShare.AtOnce {
		a.failures.tries.Failed(tries.Client(netip.MustParseAddr("192.0.2.7")), failureShare, later)
	}
}

// TestKnownCredentialsAreAskedAbout also for an address whose share others have used up.
func TestKnownCredentialsAreAskedAbout(t *testing.T) {
	var j judge
	cfg := Config{External: j.serveGRPC(t), Cookie: "sid"}
	a := newAuth(t, cfg)
	alice, cookie := aCall{own: "Bearer secret-alice"}, aCall{ownCookie: "sid=secret-carol"}
	wantJudged(t, a, alice, "alice")
	a = newAfter(t, cfg, a) // which a reload doesn't change
	wantJudged(t, a, cookie, "carol")
	useUp(a)
	wantJudged(t, a, alice, "alice")
	wantJudged(t, a, cookie, "carol")
	f := faultOfCall(t, a, aCall{own: "Bearer secret-dave"})
	if f.Reason != report.ReasonLimitExceeded || f.HTTPStatus() != 429 || f.Retry <= 0 || f.Key != report.KeyAuthExternal {
		t.Errorf("a new one: %+v", f)
	}
}

// TestKnownCredentialsOfOtherNames: metadata that the service gets may hold credentials, whatever
// its name is. A cookie beside it doesn't stand for them, or whoever sends the same one could guess.
func TestKnownCredentialsOfOtherNames(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Culvert-Subject", "alice")
		if r.Header.Get("X-Session-Token") != "right" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(s.Close)
	a := newAuth(t, Config{External: &External{URL: s.URL, Timeout: 10 * time.Second, Names: []string{"x-session-token", "cookie"}}})
	of := func(token string) aCall {
		return aCall{md: metadata.MD{"x-session-token": {token}, "cookie": {"theme=dark"}}}
	}
	wantJudged(t, a, of("right"), "alice")
	useUp(a)
	wantJudged(t, a, of("right"), "alice")
	wantJudged(t, a, of("guessed"), limited)
}

// TestKnownTokensOfOthersAreAskedAbout, too: those of an issuer that only the service knows.
func TestKnownTokensOfOthersAreAskedAbout(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Culvert-Subject", "bob") }))
	t.Cleanup(s.Close)
	cfg := Config{Issuers: []Issuer{staff(t)}, External: &External{URL: s.URL, Timeout: 10 * time.Second}}
	a := newAuth(t, cfg)
	known := aCall{own: "Bearer " + shopToken(nil)}
	wantJudged(t, a, known, "bob")
	a = newAfter(t, cfg, a) // which a reload doesn't change
	useUp(a)
	wantJudged(t, a, known, "bob")
	wantJudged(t, a, aCall{own: "Bearer " + shopToken(claims{"jti": "new"})}, limited)
	wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, limited)
}

// TestCachedRefusalsDontCount: the service is asked once, so the client's neighbors keep their share.
func TestCachedRefusalsDontCount(t *testing.T) {
	var j judge
	external := j.serveGRPC(t)
	external.Names, external.CacheTTL, external.CacheEntries = []string{"authorization"}, time.Minute, 100
	a := newAuth(t, Config{External: external})
	for range failureShare.AtOnce * 2 {
		wantJudged(t, a, aCall{own: "Bearer opaque"}, unauthenticated)
	}
	wantJudged(t, a, aCall{own: "Bearer secret-alice"}, "alice")
}
