package auth

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

func TestClientOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := clientOf(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if got := clientOf(netip.Addr{}); got.IsValid() {
		t.Errorf("no address is %v", got)
	}
}

// TestFailuresAreBounded in number and in memory, whoever sends them.
func TestFailuresAreBounded(t *testing.T) {
	var f failures
	now := time.Now()
	one, other := netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.8/32")
	for range failuresAtOnce {
		if f.over(one, now) {
			t.Fatal("over too early")
		}
		f.count(one, now)
	}
	if !f.over(one, now) || f.over(other, now) || f.over(one, now.Add(failureEvery+time.Millisecond)) {
		t.Error("the share of an address isn't its own, or doesn't come back")
	}
	for i := range 3 * maxFailing {
		f.count(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), now)
	}
	if len(f.of) > maxFailing || !f.over(netip.MustParsePrefix("203.0.113.1/32"), now) {
		t.Errorf("%d addresses are counted, and a new one isn't over", len(f.of))
	}
	later := now.Add(time.Hour)
	f.count(other, later)
	if len(f.of) != 1 {
		t.Errorf("%d addresses are counted an hour later", len(f.of))
	}
}

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
		for i := range failuresAtOnce {
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
	for i := range failuresAtOnce + 20 { // its share grows meanwhile
		_, _ = judged(t, a, aCall{own: "Bearer " + sign(strangeKey(), `{"alg":"ES256","kid":"staff"}`, claims{"jti": fmt.Sprint(i)}.over(usualClaims(staffIssuer, "alice")))})
	}
	b := newAfter(t, Config{Issuers: []Issuer{staff(t)}}, a)
	if b.tokens.failures != a.tokens.failures {
		t.Error("the failures are forgotten")
	}
}
