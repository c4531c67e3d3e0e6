package jwt

import (
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// A Token is what a verified token says. Callers share it, and must not change it.
type Token struct {
	Issuer   string
	Subject  string
	Audience []string
	Scopes   []string
	Expires  time.Time // exp, or zero
	Until    time.Time // when Verify begins to refuse it: Expires and the skew, or zero
	Metadata []Field
	Identity *identity.Identity // the same, as the rules take it; it ends with Until
	// Omitted has the names of metadata whose claim is there, and is no legal value.
	Omitted []string

	claims map[string][]string // by path
	bound  Thumbprint
	bytes  int // that keeping it costs, roughly
}

// A Field is metadata.
type Field struct{ Name, Value string }

// identify makes the token's Identity.
func (t *Token) identify() {
	t.Identity = &identity.Identity{Subject: t.Subject, Issuer: t.Issuer, Kind: identity.JWT, Scopes: t.Scopes, Expires: t.Until}
	for _, field := range t.Metadata {
		if t.Identity.Metadata == nil {
			t.Identity.Metadata = make(map[string][]string, len(t.Metadata))
		}
		t.Identity.Metadata[field.Name] = []string{field.Value}
	}
	t.bytes += 200 + 48*len(t.Metadata)
}

// Claim returns the values of a claim that Issuer.Claims names, or nil.
func (t *Token) Claim(path Path) []string { return t.claims[path.String()] }

// HasScope reports whether the token has this scope.
func (t *Token) HasScope(scope string) bool { return slices.Contains(t.Scopes, scope) }

// For reports whether the token is for a service with this name.
func (t *Token) For(audience string) bool { return slices.Contains(t.Audience, audience) }

// BoundToCertificate reports whether only the holder of a certificate may use the token.
func (t *Token) BoundToCertificate() bool { return t.bound != Thumbprint{} }
