// Package claim has what a configuration says of the claims of a token: which one is meant
// (path.go), and what it must be. Requirements of an issuer and those of rules are the same.
package claim

import (
	"slices"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

// A Requirement is one for a claim: it has one of the values or is a list that has one, or, if
// there are no values, it is there.
type Requirement struct {
	Claim  Path
	Values []string

	// Wary requirements are those of rules that deny: what else is in a list doesn't hide the
	// value, and without values anything but null and an empty list counts.
	Wary bool
}

// MetBy reports whether claims meet the requirement.
func (r *Requirement) MetBy(claims object.Object) bool {
	value := r.Claim.Find(claims)
	list, isList := value.([]any)
	switch {
	case r.Wary && len(r.Values) == 0:
		return value != nil && (!isList || len(list) > 0)
	case r.Wary && isList:
		value = slices.DeleteFunc(slices.Clone(list), func(member any) bool {
			_, is := text(member)
			return !is
		})
	}
	values, is := Texts(value)
	return is && r.Met(values)
}

// Met reports whether a claim with these values, as Texts returns them, meets the requirement.
func (r *Requirement) Met(values []string) bool {
	return slices.ContainsFunc(values, func(value string) bool { return len(r.Values) == 0 || slices.Contains(r.Values, value) })
}

// MaxAnswers is how many requirements a list may have of which somebody wants Answers.
const MaxAnswers = 256

// Answers say which requirements of a list a token meets. They take the place of its claims,
// which may be large, and whose comparison would cost each call. Nil: it meets none.
type Answers [MaxAnswers / 64]uint64

// Answer asks whether each requirement of a list is met.
func Answer(list []Requirement, met func(*Requirement) bool) *Answers {
	var all *Answers
	for i := range list {
		if !met(&list[i]) {
			continue
		}
		if all == nil {
			all = new(Answers)
		}
		all[i/64] |= 1 << (i % 64)
	}
	return all
}

// Met reports whether the requirement with an index in the list is met.
func (a *Answers) Met(i int) bool { return a != nil && a[i/64]>>(i%64)&1 == 1 }

// Or returns the requirements that either of two tokens meets. It changes none of them.
func (a *Answers) Or(other *Answers) *Answers {
	switch {
	case a == nil:
		return other
	case other == nil:
		return a
	}
	both := *a
	for i := range both {
		both[i] |= other[i]
	}
	return &both
}
