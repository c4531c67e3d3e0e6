package auth

import (
	"context"
	"crypto"
	"fmt"
	"maps"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// benchToken returns a token with the claims that a provider usually sends.
func benchToken(key crypto.Signer, header string, n int) string {
	return sign(key, header, claims{
		"jti": fmt.Sprintf("f3c8a1de-0000-4000-8000-%012d", n), "client_id": "web-console", "azp": "web-console", "scope": "openid profile email read write",
		"email": "alice@example.com", "preferred_username": "alice", "realm_access": map[string]any{"roles": []string{"default-roles", "offline_access", "admin"}},
	}.over(usualClaims(staffIssuer, "alice")))
}

const (
	rs256 = `{"alg":"RS256","kid":"rsa","typ":"at+jwt"}`
	es256 = `{"alg":"ES256","kid":"staff","typ":"at+jwt"}`
)

// usual is the metadata of a call besides its credential.
var usual = metadata.MD{
	"x-forwarded-for": {"192.0.2.7"}, "x-forwarded-proto": {"https"}, "x-forwarded-host": {"shop.example"}, "via": {"2 culvert"},
	"x-user-agent": {"connect-es/2.0"}, "x-request-id": {"c0ffee"},
}

// benchCall authenticates one call again and again. What the bridge does, to fill the request,
// is in what it measures, too.
func benchCall(b *testing.B, a *Authenticator, c aCall) {
	b.Helper()
	c.md = usual
	first := c.request(b, a)
	if _, err := a.Authenticate(b.Context(), c.request(b, a)); err != nil {
		b.Fatal(err)
	}
	md := make(metadata.MD, 16)
	ctx := context.WithoutCancel(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		clear(md)
		maps.Copy(md, first.Metadata)
		r := bridge.AuthRequest{Method: first.Method, Scheme: first.Scheme, Authority: first.Authority, Peer: first.Peer, Metadata: md, Own: first.Own, Conn: first.Conn}
		if _, err := a.Authenticate(ctx, &r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Microsecond)/float64(b.N), "µs/call")
}

// BenchmarkSeen: calls whose credential is known.
func BenchmarkSeen(b *testing.B) {
	keys, key := keysOf(b, time.Time{}, "ci")
	issuer := staff(b)
	issuer.Metadata = []ClaimMetadata{{"email", "x-email"}, {"realm_access.roles", "x-roles"}}
	rule := []Rule{{Name: "readers", Scopes: []string{"read"}, Methods: []string{"shop.v1.*/*"}}, {Name: "no-guests", Deny: true, Claims: []Requirement{{"realm_access.roles", []string{"guest", "trial"}}}}, {Name: "no-eve", Deny: true, Identities: []string{"eve"}}, {Name: "agents", Kinds: []string{"mtls"}}}
	a := newAuth(b, Config{Issuers: []Issuer{issuer, shop(b)}, APIKeys: keys, Certificates: true, Cookie: "session", Rules: rule})
	token := benchToken(rsaKey(), rs256, 0)
	for _, row := range []struct {
		name string
		call aCall
	}{
		{"token", aCall{own: "Bearer " + token}},
		{"token-of-connection", aCall{conn: "Bearer " + token}},
		{"token-in-cookie", aCall{ownCookie: "theme=dark; session=" + token}},
		{"api-key", aCall{key: key["ci"]}},
		{"certificate", aCall{client: &report.ClientNames{SPIFFE: "spiffe://example.org/ns/shop/sa/orders"}}},
		{"certificate-of-connection", aCall{client: &report.ClientNames{SPIFFE: "spiffe://example.org/ns/shop/sa/orders"}, connected: true}},
	} {
		b.Run(row.name, func(b *testing.B) { benchCall(b, a, row.call) })
	}
	var j judge
	for form, external := range map[string]*External{"grpc": j.serveGRPC(b), "http": j.serveHTTP(b)} {
		external.Names, external.Own = []string{"authorization"}, nil
		b.Run("external-"+form, func(b *testing.B) {
			benchCall(b, newAuth(b, Config{External: external}), aCall{own: "Bearer secret-alice"})
		})
		cached := *external
		cached.CacheTTL = time.Minute
		b.Run("external-"+form+"-cached", func(b *testing.B) {
			benchCall(b, newAuth(b, Config{External: &cached}), aCall{own: "Bearer secret-alice"})
		})
	}
}

// BenchmarkNew: calls whose token wasn't seen before.
func BenchmarkNew(b *testing.B) {
	for _, kind := range []struct {
		name, header string
		key          crypto.Signer
	}{{"RS256", rs256, rsaKey()}, {"ES256", es256, staffKey()}} {
		b.Run(kind.name, func(b *testing.B) {
			tokens := make([]string, 512)
			for i := range tokens {
				tokens[i] = "Bearer " + benchToken(kind.key, kind.header, i)
			}
			issuer := []Issuer{staff(b)}
			a, n := newAuth(b, Config{Issuers: issuer}), 0
			for b.Loop() {
				if n++; n%len(tokens) == 0 {
					b.StopTimer()
					a = newAuth(b, Config{Issuers: issuer})
					b.StartTimer()
				}
				if _, err := a.Authenticate(b.Context(), aCall{own: tokens[n%len(tokens)]}.request(b, a)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCopy is the part of BenchmarkSeen that isn't Authenticate's.
func BenchmarkCopy(b *testing.B) {
	md := make(metadata.MD, 16)
	for b.Loop() {
		clear(md)
		maps.Copy(md, usual)
	}
}
