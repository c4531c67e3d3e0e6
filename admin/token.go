package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// A Token is the secret that callers of the admin address must know. The zero value is no
// token: callers need none. A Token has the secret's hash alone, so that nothing that prints
// one shows the secret.
type Token struct {
	set bool
	sum [sha256.Size]byte
}

// The bounds of a token. 16 random bytes can't be guessed; fewer different ones are a
// pattern, or a word.
const (
	minToken      = 16 // bytes
	maxToken      = 512
	differentOnes = 8
)

// NewToken returns the token in a file's text, without the blanks and the line's end around
// it. An error names the remedy, and nothing of the text.
func NewToken(text string) (Token, error) {
	text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")) // the mark that Windows editors write
	different := make(map[rune]bool)
	for _, r := range text {
		different[r] = true
	}
	switch {
	case text == "":
		return Token{}, errors.New("is empty: write a token with openssl rand -hex 32")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }): // RFC 6750 §2.1, and Access.Token compares bytes
		return Token{}, errors.New("has a character that no token has: it must have one token alone, without a name before it")
	case len(text) < minToken:
		return Token{}, fmt.Errorf("has only %d characters, and a token needs %d or more: write one with openssl rand -hex 32", len(text), minToken)
	case len(text) > maxToken:
		return Token{}, fmt.Errorf("has more than %d characters: write a token with openssl rand -hex 32", maxToken)
	case len(different) < differentOnes:
		return Token{}, fmt.Errorf("has only %d different characters, so it can be guessed: write a token with openssl rand -hex 32", len(different))
	}
	return Token{true, sha256.Sum256([]byte(text))}, nil
}

// is reports whether text is the token. Its time tells nothing about either.
func (t Token) is(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 && t.set
}
