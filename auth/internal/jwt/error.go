package jwt

import "github.com/culvert-grpc/culvert/auth/internal/identity"

// A Kind tells what a caller should do about a refused token.
type Kind int

// The kinds of refusals.
const (
	// Opaque: not a JWT, or an encrypted one, so only its issuer can judge it.
	Opaque Kind = iota + 1
	// Foreign: a JWT of an issuer that isn't configured.
	Foreign
	// Invalid: the client needs another token.
	Invalid
	// Expired: the client needs a newer one.
	Expired
	// Denied: the token is good, and doesn't permit this.
	Denied
	// Unavailable: nobody can judge the token now; the client may try again.
	Unavailable
)

// An Error tells why a token is refused. It holds no part of the token but what issuers choose:
// names of claims, the kid, the issuer.
type Error struct {
	identity.Refusal
	Kind Kind

	// Issuer is the configured one whose token it says to be; "": none.
	Issuer string

	// Costly reports that the token had to be read to find this out, or its signature to be
	// verified. To read the worst token takes longer than that.
	Costly bool
}

func refusal(kind Kind, text string, cause error) *Error {
	e := &Error{Refusal: identity.Refusal{Text: text, Cause: cause}, Kind: kind}
	switch kind { //nolint:exhaustive // the others are bad credentials
	case Denied:
		e.Reason = identity.NotPermitted
	case Unavailable:
		e.Reason = identity.Unjudged
	}
	return e
}

func invalid(text string, cause error) *Error { return refusal(Invalid, text, cause) }

func unavailable(cause error) *Error {
	return refusal(Unavailable, "the token can't be verified now: try again", cause)
}
