package check

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// A Kind says why a call isn't permitted.
type Kind int

// The kinds.
const (
	Denied          Kind = iota + 1 // the service refused the call
	Unauthenticated                 // the service wants another credential, or one at all
	Unavailable                     // nobody could judge the call
)

// A Refusal is the error of a call that isn't permitted. It may be shared by several calls:
// its fields must not be changed.
type Refusal struct {
	Kind Kind
	Code codes.Code // for the client: one of 1 to 16

	// Message is for the client: printable, at most 1 KiB, and nothing from inside.
	Message string

	// Header is for the client too: the names that the caller lets pass, at most 64, with at
	// most 16 KiB. It may be nil.
	Header metadata.MD

	// Cause is for the log, and never nil. It has no credential of the call in it.
	Cause error

	// unanswered reports whether fail-open covers the refusal: nobody answered.
	unanswered bool
}

func (r *Refusal) Error() string { return r.Cause.Error() }

func (r *Refusal) Unwrap() error { return r.Cause }

// The words for clients when the service says nothing, or nothing that can be passed on.
const (
	deniedText      = "the authorization service refused the call"
	unauthenticText = "the authorization service needs another credential"
	unavailableText = "the authorization service gave no usable answer; try again later"
)

const deniedCode = codes.PermissionDenied

// unanswered returns the refusal for a question that nobody answered.
func unanswered(cause error) *Refusal {
	return &Refusal{Kind: Unavailable, Code: codes.Unavailable, Message: unavailableText, Cause: cause, unanswered: true}
}

// unusable returns the refusal for an answer that can't be used: package comment.
func unusable(cause error) *Refusal {
	return &Refusal{Kind: Unavailable, Code: codes.Unavailable, Message: unavailableText, Cause: cause}
}

// bytes returns what the refusal holds, for the cache's bound.
func (r *Refusal) bytes() int {
	n := len(r.Message) + len(r.Cause.Error())
	for name, values := range r.Header {
		n += len(name) + editOverhead
		for _, v := range values {
			n += len(v) + editOverhead
		}
	}
	return n
}
