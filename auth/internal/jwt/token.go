package jwt

import (
	"slices"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// A Token is what a verified token says. Callers share it, and must not change it.
type Token struct {
	// Identity has no end if there is no exp, else it ends with exp and the skew. Of a claim
	// that is no legal value it has no metadata.
	*identity.Identity
	Audience []string

	bound Thumbprint
	bytes int // that keeping it costs, roughly
}

// For reports whether the token is for a service with this name.
func (t *Token) For(audience string) bool { return slices.Contains(t.Audience, audience) }

// BoundToCertificate reports whether only the holder of a certificate may use the token.
func (t *Token) BoundToCertificate() bool { return t.bound != Thumbprint{} }
