package rules

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	grammar "github.com/culvert-grpc/culvert/internal/rules"
)

// opaque is the origin of pages that have none, such as sandboxed ones.
const opaque = "null"

// parseOrigin returns an origin as browsers write it. A rule's origins are whole: patterns
// belong in allow_origins, which decides whether a page may call at all.
func parseOrigin(text string) (string, error) {
	lower := strings.ToLower(text)
	if lower == opaque {
		return opaque, nil
	}
	u, err := url.Parse(lower)
	switch {
	case strings.ContainsAny(text, "*~"):
		return "", fmt.Errorf("is %q, and a rule has no patterns of origins: write each one", text)
	case strings.ContainsFunc(text, func(r rune) bool { return r > '~' }):
		return "", fmt.Errorf("is %q: write the host as browsers do, in ASCII (xn--…)", text)
	case err != nil || u.Host == "" || u.Scheme+"://"+u.Host != lower:
		return "", fmt.Errorf("is %q: write scheme, host and perhaps a port, as in https://app.example.com", text)
	case u.Port() != "" && u.Port() == grammar.UsualPort(u.Scheme):
		return "", fmt.Errorf("is %q, and browsers leave the port out: remove :%s", text, u.Port())
	case strings.HasSuffix(lower, ":"), u.Port() != "" && !grammar.IsPort(u.Port()):
		return "", errors.New("has no port after the colon: write one from 1 to 65535, or none")
	}
	return lower, nil
}

// findOrigin returns the index of an origin, in any case, in a list in lower case, or -1. A
// browser writes lower case; whoever writes another one is no browser, and doesn't evade a
// rule by it.
func findOrigin(list []string, origin string) int {
	return slices.IndexFunc(list, func(o string) bool { return equalLower(o, origin) })
}

// equalLower reports whether text in lower case is equal to lower. Only ASCII has cases here:
// strings.EqualFold also takes the Kelvin sign for a k.
func equalLower(lower, text string) bool {
	if len(lower) != len(text) {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
