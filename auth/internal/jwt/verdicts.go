package jwt

import (
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/cache"
	"github.com/culvert-grpc/culvert/auth/internal/jwk"
)

// A verdict is what was found about a token: a Token or an Error.
type verdict struct {
	token *Token
	err   *Error
	key   *jwk.Key  // with which the signature was verified, or nil
	ends  time.Time // zero for a verdict that isn't kept
}

// stale reports that the issuer has withdrawn the key.
func (v *verdict) stale() bool { return v.key != nil && v.key.Removed() }

// entryBytes is what an entry costs beside what its token says.
const entryBytes = 768

// verdicts keep verdicts by the hash of the whole token.
type verdicts = cache.Cache[*verdict]

func newVerdicts(entries, bytes int) *verdicts {
	return &verdicts{MaxEntries: entries, MaxBytes: bytes, Stale: (*verdict).stale}
}

// bytes returns what the verdict holds, for the cache's bound.
func (v *verdict) bytes() int {
	if v.token == nil {
		return entryBytes
	}
	return entryBytes + v.token.bytes
}
