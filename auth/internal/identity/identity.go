// Package identity has the words that the parts of package auth share: who a caller is, and
// why a call may not go on. It knows no credential and no call.
package identity

import (
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
)

// A Kind is the kind of credential that proved an identity.
type Kind string

// Kinds of identities. A caller without an identity has the kind None in rules.
const (
	None     Kind = "none"
	JWT      Kind = "jwt"
	APIKey   Kind = "api-key"
	MTLS     Kind = "mtls"
	External Kind = "external"
)

// Kinds are all kinds.
var Kinds = []Kind{None, JWT, APIKey, MTLS, External}

// An Identity says who a caller is. Those who share one don't change it. A nil *Identity
// stands for a caller that proved nothing.
type Identity struct {
	Subject  string // unique for the Issuer and the Kind only
	Issuer   string // "": the kind has none, as API keys
	Kind     Kind
	Scopes   []string
	Claims   *claim.Answers      // which requirements of the rules a token meets: rules.Set.Claims
	Expires  time.Time           // zero: never
	Metadata map[string][]string // for the backend, by lower-case name; nil: none

	prepared []string // Prepare has set it
}

// KindOf returns the kind of an identity that may be nil.
func KindOf(id *Identity) Kind {
	if id == nil {
		return None
	}
	return id.Kind
}
