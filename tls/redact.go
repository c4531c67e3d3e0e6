package proxytls

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A redactor removes secrets from texts of others: a provider's error may contain
// the whole request, in plain text, in the form of a URL or of JSON, or within
// base64. The zero value knows none.
type redactor struct{ secrets [][]string } // each as it is, and as base64 has it

const (
	minSecret  = 6  // bytes: keeps words like "true" and "1" in a text
	maxEscapes = 64 // backslashes in front of a character: one that was escaped six times
)

// respelled has the characters that forms of URLs and base64url write as others.
var respelled = map[string]string{" ": "+", "+": "-", "/": "_"}

func newRedactor(secrets ...string) (r redactor) {
	// One may begin with another: search the longer one first.
	secrets = slices.SortedStableFunc(slices.Values(secrets), func(a, b string) int { return len(b) - len(a) })
	for _, s := range secrets {
		if len(s) >= minSecret {
			r.secrets = append(r.secrets, append(encoded(s), s))
		}
	}
	return r
}

func (r redactor) redact(text string) string {
	for _, forms := range r.secrets {
		var b strings.Builder
		rest := 0 // begins what b doesn't have yet
		for i := 0; i < len(text); {
			end := -1
			for _, s := range forms {
				end = max(end, endOf(s, text, i))
			}
			if end < 0 {
				i++
				continue
			}
			b.WriteString(text[rest:i] + "…")
			i, rest = end, end
		}
		b.WriteString(text[rest:])
		text = b.String()
	}
	return text
}

// endOf returns where s ends if it begins at text[i:], with any of its characters escaped any
// number of times, and else -1. It takes no expression, which would have 80 thousand
// instructions for a secret of 4 KiB.
func endOf(s, text string, i int) int {
	ends := []int{i} // in all readings of what s begins with
	for s != "" && len(ends) > 0 {
		_, size := utf8.DecodeRuneInString(s)
		var next []int
		for _, end := range ends {
			next = appendEnds(next, s[:size], text, end)
			if other := respelled[s[:size]]; other != "" {
				next = appendEnds(next, other, text, end)
			}
		}
		slices.Sort(next)
		ends, s = slices.Compact(next), s[size:]
	}
	if len(ends) == 0 {
		return -1
	}
	return ends[len(ends)-1]
}

// appendEnds appends where the character char ends if it begins at text[i:]: as it is, as
// "\/", "\n" or "\u002f", as "%2F" or "%252f". A byte that isn't UTF-8 is U+FFFD.
func appendEnds(ends []int, char, text string, i int) []int {
	r, _ := utf8.DecodeRuneInString(char)
	var u string
	if strings.HasPrefix(text[i:], `\`) {
		u = fmt.Sprintf("u%04x", r)
	}
	for at := i; ; at++ {
		if got, size := utf8.DecodeRuneInString(text[at:]); size > 0 && got == r {
			ends = append(ends, at+size)
		}
		if at > i {
			if hasFold(text[at:], u) {
				ends = append(ends, at+len(u))
			}
			if k := strings.IndexRune("\b\f\n\r\t", r); k >= 0 && strings.HasPrefix(text[at:], "bfnrt"[k:k+1]) {
				ends = append(ends, at+1)
			}
		}
		if at-i == maxEscapes || !strings.HasPrefix(text[at:], `\`) {
			break
		}
	}
	inURL := []int{i}
	for _, b := range []byte(char) {
		var next []int
		for _, at := range inURL {
			if !strings.HasPrefix(text[at:], "%") {
				continue
			}
			for at++; ; at += len("25") { // of another "%"
				if hasFold(text[at:], fmt.Sprintf("%02x", b)) {
					next = append(next, at+2)
				}
				if !strings.HasPrefix(text[at:], "25") {
					break
				}
			}
		}
		inURL = next
	}
	return append(ends, inURL...)
}

// hasFold reports whether text begins with the ASCII form, in either case.
func hasFold(text, form string) bool {
	return len(text) >= len(form) && strings.EqualFold(text[:len(form)], form)
}

// encoded returns the part of s that stays the same within base64, in any context: s may begin
// at each of the three bytes that make four characters.
func encoded(s string) []string {
	var forms []string
	for before := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s))
		forms = append(forms, text[(before*8+5)/6:(before+len(s))*8/6])
	}
	return forms
}
