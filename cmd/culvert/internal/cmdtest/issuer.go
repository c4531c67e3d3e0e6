package cmdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"time"
)

// A Fatal is a test, or a program of a script.
type Fatal interface {
	Helper()
	Fatal(args ...any)
}

// An Issuer signs tokens by ES256.
type Issuer struct {
	Name string // iss

	kid string
	key *ecdsa.PrivateKey
}

// NewIssuer returns an issuer with a new key of this id.
func NewIssuer(t Fatal, name, kid string) *Issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Issuer{name, kid, key}
}

// KeySet returns the issuer's JWK set.
func (i *Issuer) KeySet(t Fatal) []byte {
	t.Helper()
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	half := (len(point) - 1) / 2
	return encode(t, map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": i.kid, "x": base64url(point[1 : 1+half]), "y": base64url(point[1+half:]),
	}}})
}

// Token returns a token of a subject for an audience, which expires after a time, with more
// claims.
func (i *Issuer) Token(t Fatal, subject, audience string, lasts time.Duration, more map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": i.Name, "sub": subject, "aud": audience, "iat": time.Now().Unix(), "exp": time.Now().Add(lasts).Unix()}
	maps.Copy(claims, more)
	text := base64url(encode(t, map[string]any{"alg": "ES256", "kid": i.kid, "typ": "JWT"})) + "." + base64url(encode(t, claims))
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64url(signature)
}

func encode(t Fatal, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func base64url(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }
