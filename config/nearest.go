package config

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// didYouMean ends an error about an unknown word: it suggests the most similar
// one of right in the given format, or returns "".
func didYouMean(word string, right []string, format string) string {
	if best := Nearest(word, right); best != "" {
		return fmt.Sprintf(": did you mean "+format+"?", best)
	}
	return ""
}

// Nearest returns the word of right that is most similar to word, or "" if
// none is similar. It ignores case and separators: allowOrigins matches
// allow_origins.
func Nearest(word string, right []string) string {
	best, least := "", len(word)/3+2
	for _, r := range right {
		if d := levenshtein.Distance(plain(word), plain(r), nil); d < least {
			best, least = r, d
		}
	}
	return best
}

func plain(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}
