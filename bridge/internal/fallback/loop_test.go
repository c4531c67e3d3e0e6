package fallback

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzLoopTokens: the result is a bounded number of tokens, which read the same again
// after a proxy has joined them.
func FuzzLoopTokens(f *testing.F) {
	f.Add("0123456789abcdef", "")
	f.Add("0123456789abcdef,0123456789abcdef", " 0123456789abcdef ")
	f.Add("x, 0123456789abcdeg", "0123456789ABCDEF")
	f.Add(strings.Repeat("0123456789abcdef,", 2*MaxTokens), ",")
	f.Fuzz(func(t *testing.T, first, second string) {
		tokens := loopTokens(http.Header{LoopHeader: {first, second}})
		for _, token := range tokens {
			if len(token) != tokenBytes || strings.ContainsFunc(token, func(c rune) bool { return !strings.ContainsRune("0123456789abcdef", c) }) {
				t.Errorf("%q, %q: %q is no token", first, second, token)
			}
		}
		joined := strings.Join(tokens, ", ")
		if again := loopTokens(http.Header{LoopHeader: {joined}}); len(tokens) > MaxTokens || !slices.Equal(again, tokens) {
			t.Errorf("%q, %q: got %q, and again %q", first, second, tokens, again)
		}
	})
}
