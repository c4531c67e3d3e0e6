package jwk

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// odd returns an odd number of so many bits: parsing a key doesn't look for primes.
func odd(bits int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.Add(n, big.NewInt(12345))
}

func encoded(b ...byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestKeys(t *testing.T) {
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	type more = map[string]any
	for name, c := range map[string]struct {
		key  any
		more more
		want string // its algorithms, or a part of why it is skipped
	}{
		"RSA":                           {key: rsaPrivate().Public(), want: "RS256 RS384 RS512 PS256 PS384 PS512"},
		"RSA for RS256":                 {key: rsaPrivate().Public(), more: more{"alg": "RS256", "use": "sig"}, want: "RS256"},
		"RSA of 8192 bits":              {key: &rsa.PublicKey{N: odd(8192), E: 65537}, more: more{"alg": "PS512"}, want: "PS512"},
		"RSA with a leading zero":       {key: rsaPrivate().Public(), more: more{"n": encoded(append([]byte{0}, rsaPrivate().N.Bytes()...)...)}, want: "RS256 RS384 RS512 PS256 PS384 PS512"},
		"exponent 3":                    {key: &rsa.PublicKey{N: odd(2048), E: 3}, want: "RS256 RS384 RS512 PS256 PS384 PS512"},
		"P-256":                         {key: p256Private().Public(), want: "ES256"},
		"P-256 with operations":         {key: p256Private().Public(), more: more{"key_ops": []string{"sign", "verify"}}, want: "ES256"},
		"P-384":                         {key: p384.Public(), want: "ES384"},
		"P-521":                         {key: p521.Public(), want: "ES512"},
		"Ed25519":                       {key: edPublic(), want: "EdDSA"},
		"Ed25519 by its newer name":     {key: edPublic(), more: more{"alg": "Ed25519"}, want: "EdDSA"},
		"certificates that aren't any":  {key: p256Private().Public(), more: more{"x5c": []string{"garbage"}, "x5u": "http://attacker.example", "x5t": "?"}, want: "ES256"},
		"unknown members":               {key: p256Private().Public(), more: more{"ext": true, "exp": 1}, want: "ES256"},
		"RSA of 1024 bits":              {key: &rsa.PublicKey{N: odd(1024), E: 65537}, want: "1024 bits"},
		"RSA of 2047 bits":              {key: &rsa.PublicKey{N: odd(2047), E: 65537}, want: "2047 bits"},
		"RSA of 8193 bits":              {key: &rsa.PublicKey{N: odd(8193), E: 65537}, want: "over 8192 bits"},
		"RSA of a million bits":         {key: &rsa.PublicKey{N: odd(1_000_000), E: 65537}, want: "over 8192 bits"},
		"even modulus":                  {key: &rsa.PublicKey{N: new(big.Int).Sub(odd(2048), big.NewInt(1)), E: 65537}, want: "even"},
		"exponent 1":                    {key: rsaPrivate().Public(), more: more{"e": encoded(1)}, want: "exponent is 1"},
		"exponent 0":                    {key: rsaPrivate().Public(), more: more{"e": encoded(0)}, want: "exponent is 0"},
		"exponent 2":                    {key: rsaPrivate().Public(), more: more{"e": encoded(2)}, want: "exponent is 2"},
		"exponent of 32 bits":           {key: rsaPrivate().Public(), more: more{"e": encoded(0x80, 0, 0, 1)}, want: "e is over 31 bits"},
		"exponent of 600 bytes":         {key: rsaPrivate().Public(), more: more{"e": strings.Repeat("A", 800)}, want: "e is over 31 bits"},
		"no exponent":                   {key: rsaPrivate().Public(), more: more{"e": nil}, want: "e is missing"},
		"empty modulus":                 {key: rsaPrivate().Public(), more: more{"n": ""}, want: "n is missing"},
		"modulus with padding":          {key: rsaPrivate().Public(), more: more{"n": "AQAB="}, want: "isn't base64url"},
		"modulus that is a number":      {key: rsaPrivate().Public(), more: more{"n": 5}, want: "isn't a string"},
		"for encryption":                {key: rsaPrivate().Public(), more: more{"use": "enc"}, want: `use is "enc"`},
		"use that is a list":            {key: rsaPrivate().Public(), more: more{"use": []string{"sig"}}, want: "isn't a string"},
		"operations without verify":     {key: rsaPrivate().Public(), more: more{"key_ops": []string{"sign"}}, want: "key_ops"},
		"operations that are text":      {key: rsaPrivate().Public(), more: more{"key_ops": "verify"}, want: "key_ops"},
		"operations twice":              {key: rsaPrivate().Public(), more: more{"key_ops": []string{"verify", "verify"}}, want: "key_ops"},
		"operations that are numbers":   {key: rsaPrivate().Public(), more: more{"key_ops": []any{"verify", 1}}, want: "key_ops"},
		"operations that are lists":     {key: rsaPrivate().Public(), more: more{"key_ops": []any{[]any{}, []any{}}}, want: "key_ops"},
		"alg for encryption":            {key: rsaPrivate().Public(), more: more{"alg": "RSA-OAEP"}, want: "alg"},
		"alg of another type":           {key: rsaPrivate().Public(), more: more{"alg": "ES256"}, want: "alg"},
		"alg of another curve":          {key: p256Private().Public(), more: more{"alg": "ES384"}, want: "alg"},
		"symmetric alg":                 {key: rsaPrivate().Public(), more: more{"alg": "HS256"}, want: "alg"},
		"none":                          {key: rsaPrivate().Public(), more: more{"alg": "none"}, want: "alg"},
		"empty alg":                     {key: rsaPrivate().Public(), more: more{"alg": ""}, want: "alg"},
		"kid that is a number":          {key: rsaPrivate().Public(), more: more{"kid": 1}, want: "isn't a string"},
		"kid of 300 bytes":              {key: rsaPrivate().Public(), more: more{"kid": strings.Repeat("k", 300)}, want: "kid is over"},
		"private RSA key":               {key: rsaPrivate(), want: "private"},
		"private P-256 key":             {key: p256Private(), want: "private"},
		"public key with a d of false":  {key: p256Private().Public(), more: more{"d": false}, want: "private"},
		"symmetric key":                 {key: []byte("a secret of thirty-two bytes ...."), want: "symmetric"},
		"symmetric key without a value": {key: rsaPrivate().Public(), more: more{"kty": "oct"}, want: "kty"},
		"unknown type":                  {key: rsaPrivate().Public(), more: more{"kty": "AKP"}, want: "kty"},
		"type in lower case":            {key: rsaPrivate().Public(), more: more{"kty": "rsa"}, want: "kty"},
		"no type":                       {key: rsaPrivate().Public(), more: more{"kty": nil}, want: "kty"},
		"curve secp256k1":               {key: p256Private().Public(), more: more{"crv": "secp256k1"}, want: "secp256k1"},
		"curve X25519":                  {key: edPublic(), more: more{"crv": "X25519"}, want: "X25519"},
		"point off the curve":           {key: p256Private().Public(), more: more{"x": encoded(make([]byte, 32)...)}, want: "isn't a key of kty EC"},
		"coordinate too short":          {key: p256Private().Public(), more: more{"x": encoded(1, 2, 3)}, want: "isn't a key of kty EC"},
		"Ed25519 key too short":         {key: edPublic(), more: more{"x": encoded(1, 2, 3)}, want: "isn't a key of kty OKP"},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := ParseSet(setOf(t, member(t, c.key, "a", c.more)))
			if err != nil {
				t.Fatal(err)
			}
			if set.Len() == 1 {
				if got := strings.Join(set.keys[0].algorithms, " "); got != c.want {
					t.Errorf("it is a key for %q, want %q", got, c.want)
				}
				return
			}
			if len(set.Skipped()) != 1 {
				t.Fatalf("%d keys, skipped: %v", set.Len(), set.Skipped())
			}
			for _, why := range set.Skipped() {
				if !strings.Contains(why.Error(), c.want) || len(why.Error()) > 300 {
					t.Errorf("skipped because %v, want %q", why, c.want)
				}
			}
		})
	}
}

func TestAlgorithmsAreAsymmetric(t *testing.T) {
	want := strings.Fields("RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA")
	if got := Algorithms(); !slices.Equal(got, want) {
		t.Errorf("algorithms are %v, want %v", got, want)
	}
}
