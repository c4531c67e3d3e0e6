package ratelimit

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/metadata"
)

// A Kind says why a call may not go on.
type Kind int

// The kinds.
const (
	OverLimit   Kind = iota + 1 // a limit was reached
	Unavailable                 // the service gave no usable answer
)

// A Refusal is the error of a call that may not go on.
type Refusal struct {
	Kind Kind

	// Message is for the client. It has nothing of the service but RetryAfter.
	Message string

	// RetryAfter is when the client may try again: whole seconds, at most 366 days, or zero
	// if nobody knows.
	RetryAfter time.Duration

	// Header is for the client too: at most 16 names and values that Options.ReservedDown
	// lets pass, with at most 4 KiB. It may be nil, and is the caller's own.
	Header metadata.MD

	// Cause is for the log, and never nil. It has the keys of descriptors and no value, unless
	// the service repeats one in its status.
	Cause error
}

func (r *Refusal) Error() string { return r.Cause.Error() }

func (r *Refusal) Unwrap() error { return r.Cause }

const unavailableText = "the rate limit service gave no usable answer; try again later"

// overLimit returns the refusal of a call over a limit.
func overLimit(after time.Duration, cause error) *Refusal {
	when := "later"
	if after > 0 {
		when = fmt.Sprintf("in %d s", after/time.Second)
	}
	return &Refusal{
		Kind: OverLimit, RetryAfter: after, Cause: cause,
		Message: "the rate limit of this service was reached; try again " + when,
	}
}

// unavailable returns the refusal for a question without a usable answer.
func unavailable(cause error) *Refusal {
	return &Refusal{Kind: Unavailable, Message: unavailableText, Cause: cause}
}

const maxCauseBytes = 512

// line returns the first line of another program's text for the log, with blanks for what
// isn't printable. grpc-go quotes the body of an answer that isn't gRPC behind it.
func line(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	text = strings.ToValidUTF8(text[:min(len(text), maxCauseBytes)], " ")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
}
