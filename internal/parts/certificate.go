package parts

import (
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
)

// An Authority makes certificates for tests.
type Authority = authority.Authority

// NewAuthority returns an Authority with a certificate of its own.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	return authority.New(t)
}
