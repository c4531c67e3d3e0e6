package check

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxMessageBytes = 1 << 10 // to the client
	maxCauseBytes   = 512     // of another program's text in a cause
)

// plain returns the printable beginning of a foreign text, at most limit bytes: other
// characters, such as line ends and those that change the direction of writing, become
// blanks, and blanks in a row become one. It returns "" if nothing is left, or if the text
// repeats a secret.
func plain(text string, limit int, hidden secrets) string {
	if hidden.in(text) {
		return ""
	}
	var b strings.Builder
	blank := false
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		if r == ' ' || !unicode.IsPrint(r) || r == utf8.RuneError && n == 1 {
			blank = b.Len() > 0
			continue
		}
		if b.Len()+n+1 > limit {
			break
		}
		if blank {
			b.WriteByte(' ')
			blank = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// saying continues a cause with what the service says of its answer, if that is text.
func saying(text string, hidden secrets) string {
	if text = plain(text, maxCauseBytes, hidden); text == "" {
		return ""
	}
	return ": " + text
}

// cause returns the text of an error for the log. Only its first line counts: grpc-go quotes
// the body of an answer that isn't gRPC behind it.
func cause(text string, hidden secrets) string {
	text, _, _ = strings.Cut(text, "\n")
	if text = plain(text, maxCauseBytes, hidden); text == "" {
		return "no text that a log may have"
	}
	return text
}
