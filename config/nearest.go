package config

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// didYouMean ends a sentence about a wrong word with the nearest of the right
// ones in the given format, or with nothing if none is near.
func didYouMean(word string, right []string, format string) string {
	if best := Nearest(word, right); best != "" {
		return fmt.Sprintf(": did you mean "+format+"?", best)
	}
	return ""
}

// Nearest returns the one of right that word was probably meant to be, or "".
// Case and the marks between words count for nothing: allowOrigins is
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
