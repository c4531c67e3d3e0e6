package auth

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
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
		other := aCall{own: "Bearer " + staffToken(claims{"sub": "dave"})}.request(t, a)
		other.Peer.Addr = "198.51.100.1:1"
		if got := verdict(a.Authenticate(t.Context(), other)); got != "dave" {
			t.Errorf("another address: got %s", got)
		}
		if got := a.State().Tokens.Unverified; got != 2 {
			t.Errorf("%d tokens weren't looked at, want 2", got)
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
	if b.tokens.failures != a.tokens.failures {
		t.Error("the failures are forgotten")
	}
}
