package proxytls

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A redactor removes secrets from texts of others: a provider's error may contain
// the whole request, in plain text, in the form of a URL or of JSON, or within
// base64. The zero value knows none.
type redactor struct{ secrets []*regexp.Regexp }

const (
	minSecret  = 6       // keeps words like "true" and "1" in a text
	maxSpelled = 4 << 10 // a longer one is no token: it is searched literally
)

func newRedactor(secrets ...string) (r redactor) {
	// One may begin with another: search the longer one first.
	secrets = slices.SortedStableFunc(slices.Values(secrets), func(a, b string) int { return len(b) - len(a) })
	for _, s := range secrets {
		switch {
		case len(s) < minSecret:
		case len(s) > maxSpelled:
			// An expression has no bytes that aren't UTF-8: U+FFFD stands for each.
			r.secrets = append(r.secrets, regexp.MustCompile(regexp.QuoteMeta(string([]rune(s)))))
		default:
			forms := append(encoded(s), spelled(s))
			r.secrets = append(r.secrets, regexp.MustCompile(strings.Join(forms, "|")))
		}
	}
	return r
}

func (r redactor) redact(text string) string {
	for _, secret := range r.secrets {
		text = secret.ReplaceAllLiteralString(text, "…")
	}
	return text
}

// spelled returns an expression for s with any of its characters escaped, any
// number of times: "%2F", "%252f", `\/`, `\u002f`, and "+" for a blank.
func spelled(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		fmt.Fprintf(&b, `(?:\\*%s|\\+(?i:u%04x)|`, regexp.QuoteMeta(string(r)), r)
		for _, c := range []byte(s[:size]) {
			fmt.Fprintf(&b, `%%(?:25)*(?i:%02x)`, c)
		}
		if r == ' ' {
			b.WriteString(`|\+|%(?:25)*2[bB]`)
		}
		b.WriteString(`)`)
		s = s[size:]
	}
	return b.String()
}

// encoded returns expressions for the part of s that stays the same within base64,
// in any context: s may begin at each of the three bytes that make four characters.
func encoded(s string) []string {
	var forms []string
	for before := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s))
		text = text[(before*8+5)/6 : (before+len(s))*8/6]
		forms = append(forms, strings.NewReplacer("+", `(?:[+-]|%2[bB])`, "/", `(?:\\*[/_]|%2[fF])`).Replace(text))
	}
	return forms
}
