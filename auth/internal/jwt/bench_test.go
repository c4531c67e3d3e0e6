package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
)

// benchToken returns a token with the claims that a provider usually sends.
func benchToken(alg, kid string, n int) string {
	return sign(alg, private[kid](), `{"alg":"`+alg+`","kid":"`+kid+`","typ":"at+jwt"}`, asJSON(claims(map[string]any{
		"jti": fmt.Sprintf("f3c8a1de-0000-4000-8000-%012d", n), "client_id": "web-console", "azp": "web-console", "scope": "openid profile email read write",
		"email": "alice@example.com", "email_verified": true, "preferred_username": "alice",
		"realm_access": map[string]any{"roles": []string{"default-roles", "offline_access", "uma_authorization", "admin"}},
	})))
}

func benchIssuer(b *testing.B) Issuer {
	b.Helper()
	issuer := newIssuer(b)
	issuer.Scopes = []string{"read"}
	issuer.Metadata = []Mapping{{claim.Path{"email"}, "x-email"}, {claim.Path{"realm_access", "roles"}, "x-roles"}}
	return issuer
}

// BenchmarkSeen verifies a token whose verdict is kept.
func BenchmarkSeen(b *testing.B) {
	j, text := newJudge(b, benchIssuer(b)), benchToken("RS256", "rsa", 0)
	b.ReportMetric(float64(len(text)), "B/token")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.Verify(b.Context(), text, Thumbprint{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSeenParallel does so on all processors.
func BenchmarkSeenParallel(b *testing.B) {
	j, text := newJudge(b, benchIssuer(b)), benchToken("RS256", "rsa", 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := j.Verify(b.Context(), text, Thumbprint{}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkNew verifies tokens that were never seen, and by turns their signatures alone, by the
// standard library. It reports the one in percent of the other.
func BenchmarkNew(b *testing.B) {
	for _, kind := range [][2]string{{"RS256", "rsa"}, {"ES256", "p256"}} {
		alg, kid := kind[0], kind[1]
		texts := make([]string, 512)
		for i := range texts {
			texts[i] = benchToken(alg, kid, i)
		}
		b.Run(alg, func(b *testing.B) {
			j, public := newJudge(b, benchIssuer(b)), private[kid]().Public()
			var took, bare time.Duration
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				text := texts[n%len(texts)]
				began := time.Now()
				if v := j.examine(b.Context(), text); v.err != nil {
					b.Fatal(v.err)
				}
				between := time.Now()
				if !bareVerify(public, text) {
					b.Fatal("the signature is wrong")
				}
				took, bare = took+between.Sub(began), bare+time.Since(between)
			}
			b.ReportMetric(100*float64(took)/float64(bare), "%of-"+alg)
			b.ReportMetric(float64((took-bare).Nanoseconds())/float64(b.N), "ns-more/op")
		})
	}
}

// bareVerify verifies a token's signature, and reads nothing else of it.
func bareVerify(key crypto.PublicKey, text string) bool {
	at := strings.LastIndexByte(text, '.')
	signature := must(base64.RawURLEncoding.DecodeString(text[at+1:]))
	hash := sha256.Sum256([]byte(text[:at]))
	switch key := key.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	default:
		return false
	}
}
