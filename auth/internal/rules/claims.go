package rules

import (
	"fmt"
	"slices"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
)

// claimsOf compiles the claims of a rule. A call's claims are compared with them when its token
// is verified, and not at each call: the condition has places in the set's list.
func (s *Set) claimsOf(r *Rule) (condition, *Mistake) {
	c := condition{key: byClaim}
	if len(r.Claims) > maxEntries {
		return c, &Mistake{Key: byClaim.String(), Text: fmt.Sprintf("has %d entries, and %d are allowed: write several rules", len(r.Claims), maxEntries)}
	}
	for i := range r.Claims {
		from := &r.Claims[i]
		if mistake := checkClaim(fmt.Sprintf("%v[%d]", byClaim, i), from); mistake != nil {
			return c, mistake
		}
		wary := r.Effect == Deny
		at := slices.IndexFunc(s.claims, func(other claim.Requirement) bool {
			return slices.Equal(from.Claim, other.Claim) && slices.Equal(from.Values, other.Values) && wary == other.Wary
		})
		if at < 0 {
			if at = len(s.claims); at == claim.MaxAnswers {
				return c, &Mistake{Key: fmt.Sprintf("%v[%d]", byClaim, i), Text: fmt.Sprintf("is one more than the %d different ones that all rules together may have: write more values into one, or require scopes", claim.MaxAnswers)}
			}
			s.claims = append(s.claims, claim.Requirement{Claim: slices.Clone(from.Claim), Values: slices.Clone(from.Values), Wary: wary})
		}
		c.claims = append(c.claims, at)
		c.entries = append(c.entries, spelled(from))
	}
	return c, nil
}

// checkClaim returns what is wrong with an entry of the key, or nil.
func checkClaim(key string, r *claim.Requirement) *Mistake {
	if err := checkEntry(r.Claim.String()); err != nil {
		return &Mistake{Key: key + ".claim", Text: err.Error()}
	}
	if len(r.Values) > maxEntries {
		return &Mistake{Key: key + ".values", Text: fmt.Sprintf("has %d entries, and %d are allowed", len(r.Values), maxEntries)}
	}
	for i, value := range r.Values {
		if err := checkEntry(value); err != nil {
			return &Mistake{Key: fmt.Sprintf("%s.values[%d]", key, i), Text: err.Error()}
		}
	}
	return nil
}

// spelled returns a requirement in words, for explanations.
func spelled(r *claim.Requirement) string {
	text := fmt.Sprintf("%q", r.Claim.String())
	switch len(r.Values) {
	case 0:
		return text
	case 1:
		return text + fmt.Sprintf(" with %q", r.Values[0])
	default:
		return text + " with one of " + quoted(r.Values)
	}
}
