package rules

import "strings"

// HasToken looks for a token in a header's lists, in any case.
func HasToken(lists []string, token string) bool { return FindToken(lists, token) != "" }

// FindToken returns the token in a header's lists as the sender spells it, or "" if it isn't
// there.
func FindToken(lists []string, token string) string {
	for _, list := range lists {
		for one := range strings.SplitSeq(list, ",") {
			// Only ASCII has as many bytes: a long s or the Kelvin sign are no letters of a token.
			if one = strings.Trim(one, " \t"); len(one) == len(token) && strings.EqualFold(one, token) {
				return one
			}
		}
	}
	return ""
}
