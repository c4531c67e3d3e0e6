package auth

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestHostileTokens: each class of them arrives as UNAUTHENTICATED, in each place, and never as
// nobody: not for a public method, and not if another credential would do.
func TestHostileTokens(t *testing.T) {
	cfg := Config{Issuers: []Issuer{staff(t)}, Certificates: true, Cookie: "session", PublicMethods: []string{"*/*"}}
	usual := usualClaims(staffIssuer, "alice")
	payload := encode(must(json.Marshal(usual)))
	good := staffToken(nil)
	parts := strings.Split(good, ".")
	es := func(header string) string { return sign(staffKey(), header, usual) }
	hs := func(secret []byte, header string) string {
		input := encode([]byte(header)) + "." + payload
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return input + "." + encode(mac.Sum(nil))
	}
	public := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	now := time.Now().Unix()
	for name, token := range map[string]string{
		"none":                         encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + payload + ".",
		"None":                         encode([]byte(`{"alg":"None","typ":"JWT"}`)) + "." + payload + ".AA",
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"HS256 with the public key":    hs(public, `{"alg":"HS256","kid":"rsa"}`),
		"HS256 with the key set":       hs(keySet(map[string]crypto.Signer{"rsa": rsaKey()}), `{"alg":"HS256","kid":"rsa"}`),
		"HS256 with nothing":           hs(nil, `{"alg":"HS256"}`),
		"RS256 of an EC key":           es(`{"alg":"RS256","kid":"staff"}`),
		"ES256 of an RSA key":          sign(rsaKey(), `{"alg":"ES256","kid":"rsa"}`, usual),
		"a key of its own (jwk)":       sign(strangeKey(), `{"alg":"ES256","kid":"staff","jwk":{"kty":"EC"}}`, usual),
		"a place of keys (jku)":        sign(strangeKey(), `{"alg":"ES256","kid":"staff","jku":"https://evil.example/keys"}`, usual),
		"certificates (x5c)":           es(`{"alg":"ES256","kid":"staff","x5c":["AA"]}`),
		"critical parameters":          es(`{"alg":"ES256","kid":"staff","crit":["exp"]}`),
		"an unencoded payload":         es(`{"alg":"ES256","kid":"staff","b64":false}`),
		"another key's signature":      sign(strangeKey(), `{"alg":"ES256","kid":"staff"}`, usual),
		"an unknown kid":               sign(strangeKey(), `{"alg":"ES256","kid":"../../etc/passwd"}`, usual),
		"a signature of zeros":         parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)),
		"claims of another token":      parts[0] + "." + strings.Split(staffToken(claims{"sub": "root"}), ".")[1] + "." + parts[2],
		"a part more":                  good + ".AA",
		"encrypted":                    good + ".AA.AA",
		"padding":                      good + "=",
		"no JSON":                      encode([]byte("alg")) + "." + payload + ".AA",
		"two of a member":              es(`{"alg":"none","alg":"ES256","kid":"staff"}`),
		"another type":                 es(`{"alg":"ES256","kid":"staff","typ":"dpop+jwt"}`),
		"an ID in a token":             es(`{"alg":"ES256","kid":"staff","cty":"JWT"}`),
		"expired":                      staffToken(claims{"exp": now - 3600}),
		"no end":                       staffToken(claims{"exp": nil}),
		"not yet":                      staffToken(claims{"nbf": now + 3600}),
		"of the future":                staffToken(claims{"iat": now + 3600}),
		"for another service":          staffToken(claims{"aud": "other"}),
		"for nobody":                   staffToken(claims{"aud": nil}),
		"of nobody":                    staffToken(claims{"sub": nil}),
		"a line in its subject":        staffToken(claims{"sub": "alice\nroot"}),
		"of another issuer":            staffToken(claims{"iss": staffIssuer + "/"}),
		"of no issuer":                 staffToken(claims{"iss": nil}),
		"bound by a key":               staffToken(claims{"cnf": map[string]any{"jkt": "AA"}}),
		"bound to a certificate":       staffToken(claims{"cnf": map[string]any{"x5t#S256": encode(make([]byte, 32))}}),
		"bound to nothing":             staffToken(claims{"cnf": "no"}),
		"too long":                     staffToken(claims{"long": strings.Repeat("x", 20<<10)}),
		"text":                         "hello",
		"many parts":                   strings.Repeat("a.", 5000),
		"a key of culvert's, nearly":   "culvert_abcdefgh_" + strings.Repeat("A", 43),
		"a key of culvert's, beginnin": "culvert_",
	} {
		a := newAuth(t, cfg) // with a new share of failures
		for place, c := range map[string]aCall{
			"call": {own: "Bearer " + token}, "connection": {conn: "Bearer " + token}, "cookie": {ownCookie: "session=" + token},
			"the connection's cookie": {cookie: "session=" + token}, "subprotocol": {bearer: token},
			"call over a good connection": {own: "Bearer " + token, conn: "Bearer " + good},
			"call beside a certificate":   {own: "Bearer " + token, client: &report.ClientNames{CommonName: "root"}},
		} {
			if got, _ := judged(t, a, c); got != unauthenticated {
				t.Errorf("%s, by %s: got %s", name, place, got)
			}
		}
	}
	if got, _ := judged(t, newAuth(t, cfg), aCall{own: "Bearer " + good}); got != "alice" {
		t.Errorf("the good token: got %s", got) // the test's own tokens are right
	}
}
