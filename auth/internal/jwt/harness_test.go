package jwt

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/culvert-grpc/culvert/auth/internal/jwk"
)

const (
	issuerName = "https://issuer.example"
	audience   = "culvert"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newEC(curve elliptic.Curve) func() crypto.Signer {
	return sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(curve, rand.Reader)) })
}

func newRSA() func() crypto.Signer {
	return sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
}

// The issuer's private keys, by kid, and one that isn't the issuer's.
var (
	private = map[string]func() crypto.Signer{
		"rsa": newRSA(), "p256": newEC(elliptic.P256()), "p384": newEC(elliptic.P384()), "p521": newEC(elliptic.P521()),
		"ed": sync.OnceValue(func() crypto.Signer {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return must(key, err)
		}),
	}
	strangeRSA, strangeEC = newRSA(), newEC(elliptic.P256())
)

// setOf returns the key set of keys with these kids.
func setOf(t testing.TB, kids ...string) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, kid := range kids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: private[kid]().Public(), KeyID: kid})
	}
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// keyFile is a source of keys that a test changes.
type keyFile struct {
	*jwk.Source
	name  string
	finds atomic.Int32
}

func newKeyFile(t testing.TB, kids ...string) *keyFile {
	t.Helper()
	f := &keyFile{name: filepath.Join(t.TempDir(), "keys.json")}
	if err := os.WriteFile(f.name, setOf(t, kids...), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Source = must(jwk.Open(jwk.Options{File: f.name}))
	t.Cleanup(f.Close)
	return f
}

func (f *keyFile) Find(ctx context.Context, id, algorithm string) ([]*jwk.Key, error) {
	f.finds.Add(1)
	return f.Source.Find(ctx, id, algorithm)
}

func (f *keyFile) change(t testing.TB, kids ...string) {
	t.Helper()
	if err := os.WriteFile(f.name, setOf(t, kids...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
}

// newIssuer returns the issuer with all of its keys.
func newIssuer(t testing.TB) Issuer {
	t.Helper()
	return Issuer{Name: issuerName, Keys: newKeyFile(t, "rsa", "p256", "p384", "p521", "ed"), Audiences: []string{audience}}
}

func newJudge(t testing.TB, issuers ...Issuer) *Judge {
	t.Helper()
	if issuers == nil {
		issuers = []Issuer{newIssuer(t)}
	}
	j, err := NewJudge(Options{Issuers: issuers})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// raw is a claim's value as it stands in JSON; "" leaves the claim out.
type raw string

// claims returns good claims, with others in place of some.
func claims(change map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": issuerName, "sub": "alice", "aud": audience, "iat": now, "nbf": now, "exp": now + 600}
	for name, value := range change {
		switch value {
		case nil, raw(""):
			delete(c, name)
		default:
			c[name] = value
		}
	}
	return c
}

func asJSON(value map[string]any) string {
	m := map[string]json.RawMessage{}
	for name, member := range value {
		if text, is := member.(raw); is {
			m[name] = json.RawMessage(text)
			continue
		}
		m[name] = must(json.Marshal(member))
	}
	return string(must(json.Marshal(m)))
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// sign returns a token whose header and payload are what they are, signed with alg.
func sign(alg string, key crypto.Signer, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	return input + "." + encode(string(signature(alg, key, input)))
}

func signature(alg string, key crypto.Signer, input string) []byte {
	if alg == "EdDSA" {
		return must(key.Sign(rand.Reader, []byte(input), crypto.Hash(0)))
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	h := hash.New()
	_, _ = h.Write([]byte(input)) // never fails
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg, "PS") {
			return must(rsa.SignPSS(rand.Reader, key, hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil)))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
		size := (must(key, err).Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	panic("no such key")
}

// token returns a good token with other claims.
func token(change map[string]any) string {
	return sign("ES256", private["p256"](), `{"alg":"ES256","kid":"p256","typ":"at+jwt"}`, asJSON(claims(change)))
}

// refused verifies a token that must be refused, and returns why.
func refused(t testing.TB, j *Judge, token string) *Error {
	t.Helper()
	got, err := j.Verify(t.Context(), token, Thumbprint{})
	about, is := errors.AsType[*Error](err)
	if !is || got != nil {
		t.Fatalf("the token is accepted: %+v, %v", got, err)
	}
	return about
}

// accepted verifies a token that must be accepted.
func accepted(t testing.TB, j *Judge, token string) *Token {
	t.Helper()
	got, err := j.Verify(t.Context(), token, Thumbprint{})
	if err != nil {
		t.Fatalf("the token is refused: %v", err)
	}
	return got
}

// kind returns the kind of a refusal, 0 for nil.
func kind(err error) Kind {
	if about, is := errors.AsType[*Error](err); is {
		return about.Kind
	}
	return 0
}
