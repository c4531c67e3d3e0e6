package rules

import "strings"

// A glob is a pattern with * for parts of a text.
type glob struct {
	prefix string // up to the first *
	rest   string // with the first *, or "" if there is none
}

func newGlob(text string) glob {
	prefix, _, _ := strings.Cut(text, "*")
	return glob{prefix, text[len(prefix):]}
}

// separators are the characters that a * doesn't stand for. They divide subjects into parts of
// different owners: SPIFFE IDs and repositories by slashes, subjects of Kubernetes by colons,
// addresses by the @.
type separators uint8

const (
	slash      separators = iota // between the service and the method
	ofSubjects                   // / : @
)

func (s separators) has(c byte) bool {
	return c == '/' || s == ofSubjects && (c == ':' || c == '@')
}

// matches reports whether the glob matches the text, or only its beginning. Most globs of a
// call's rules don't match, and end at their prefix.
//
// If a part fits nowhere, only the last * takes one more character. An earlier one couldn't
// help: it would have to take the part up to a later place, and cross a separator for it if
// the last one does. So the time is at most the product of the lengths.
func (g *glob) matches(text string, s separators, beginning bool) bool {
	if !strings.HasPrefix(text, g.prefix) {
		return false
	}
	pattern, text := g.rest, text[len(g.prefix):]
	star, taken := -1, 0 // the place after the last *, and the end of what it stands for
	i, j := 0, 0
	for {
		switch {
		case j == len(pattern) && (beginning || i == len(text)):
			return true
		case j < len(pattern) && pattern[j] == '*':
			j++
			star, taken = j, i
		case j < len(pattern) && i < len(text) && pattern[j] == text[i]:
			i++
			j++
		case star < 0 || taken == len(text) || s.has(text[taken]):
			return false
		default:
			taken++
			i, j = taken, star
		}
	}
}
