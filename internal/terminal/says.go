package terminal

import (
	"bytes"
	"html"
	"strings"
	"unicode/utf8"
)

// Says returns what the body of an answer, of which the beginning is there, tells people: the title
// of a page of HTML, or else the beginning of a text, in at most so many bytes and an ellipsis. ""
// stands for neither.
func Says(body []byte, most int) string {
	text := title(body)
	if text == "" {
		text = strings.TrimSpace(string(body))
		for range utf8.UTFMax - 1 { // the end may be in the middle of a character
			if r, n := utf8.DecodeLastRuneInString(text); r == utf8.RuneError && n == 1 {
				text = text[:len(text)-1]
			}
		}
		if strings.HasPrefix(text, "<") || strings.Contains(text, "\x00") || !utf8.ValidString(text) {
			return ""
		}
	}
	return Short(strings.Join(strings.Fields(text), " "), most)
}

// title returns the title of a page of HTML, or "".
func title(page []byte) string {
	page = bytes.ToValidUTF8(page, []byte("?"))
	lower := bytes.Map(func(r rune) rune { // as ToLower, which may change lengths
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, page)
	at := bytes.Index(lower, []byte("<title"))
	if at < 0 {
		return ""
	}
	begin := bytes.IndexByte(page[at:], '>')
	if begin < 0 {
		return ""
	}
	begin += at + 1
	end := bytes.Index(lower[begin:], []byte("</title"))
	if end < 0 {
		return ""
	}
	return html.UnescapeString(string(page[begin : begin+end]))
}
