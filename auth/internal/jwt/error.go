package jwt

import "fmt"

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
	Kind  Kind
	Text  string // for the client: what is wrong with the token, and what to do
	Cause error  // for the operator's log; may be nil

	// Costly reports that a signature had to be verified to find this out.
	Costly bool
}

// Error returns the text for the operator's log.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Text
	}
	return fmt.Sprintf("%s: %v", e.Text, e.Cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func invalid(text string, cause error) *Error { return &Error{Kind: Invalid, Text: text, Cause: cause} }

func unavailable(cause error) *Error {
	return &Error{Kind: Unavailable, Text: "the token can't be verified now: try again", Cause: cause}
}
