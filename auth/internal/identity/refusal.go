package identity

// A Reason says whose turn it is after a refusal.
type Reason uint8

// Reasons of refusals.
const (
	BadCredential Reason = iota // UNAUTHENTICATED: the client needs another credential
	NotPermitted                // PERMISSION_DENIED: the identity is known, and may not do this
	Unjudged                    // AUTH_UNAVAILABLE: nobody could judge the credential; a later call may succeed
)

// String returns the name of the reason in logs.
func (r Reason) String() string {
	switch r {
	case BadCredential:
		return "UNAUTHENTICATED"
	case NotPermitted:
		return "PERMISSION_DENIED"
	default:
		return "AUTH_UNAVAILABLE"
	}
}

// A Refusal is the error of a call that may not go on. It has two faces: Text is for the
// client, and Cause is for the operator's log. Neither has a credential.
type Refusal struct {
	Reason Reason
	Text   string // says what is wrong and what to do, and nothing of what the server has
	Cause  error  // nil: Text says it all
}

// Error returns both faces, for the operator's log.
func (r *Refusal) Error() string {
	if r.Cause == nil {
		return r.Text
	}
	return r.Text + ": " + r.Cause.Error()
}

func (r *Refusal) Unwrap() error { return r.Cause }
