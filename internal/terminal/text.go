// Package terminal makes texts of strangers safe to show on a terminal: those of servers, proxies and boxes
// on the way. A terminal acts on control characters, also on the C1 controls: U+009B begins an
// escape sequence. Characters that change the direction of text make it read as another one.
package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ClearLine goes to the beginning of the line, and clears it.
const ClearLine = "\r\x1b[K"

// Text returns one line of text. "?" stands for each character that isn't printable, and for
// each run of bytes that aren't UTF-8. Tabs stay.
func Text(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Short is Text for at most so many bytes and an ellipsis: an error with what somebody has sent
// must fit into a line, and into the header that tells a client.
func Short(s string, most int) string {
	s = Text(s[:min(len(s), 4*most)]) // that may be less
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Lines is Text for several lines.
func Lines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		line, end := strings.CutSuffix(line, "\n")
		b.WriteString(Text(line))
		if end {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// unprintable also reports the character that stands for bytes that aren't UTF-8.
func unprintable(r rune) bool {
	return r == utf8.RuneError || r != '\t' && !unicode.IsPrint(r)
}

// AppendJSON appends compact or indented JSON, and escapes all characters that aren't
// printable. encoding/json doesn't escape DEL, the C1 controls and the characters that change
// the direction of text. In such JSON they occur only in strings, where the escape means the
// same. Bytes that aren't UTF-8 become U+FFFD.
func AppendJSON(dst, json []byte) []byte {
	for len(json) > 0 {
		plain := 0 // nearly all is ASCII
		for plain < len(json) && ' ' <= json[plain] && json[plain] <= '~' {
			plain++
		}
		if dst, json = append(dst, json[:plain]...), json[plain:]; len(json) == 0 {
			break
		}
		r, n := utf8.DecodeRune(json)
		switch {
		case r == '\n' || unicode.IsPrint(r) && (r != utf8.RuneError || n > 1):
			dst = append(dst, json[:n]...)
		case r > 0xffff: // as two surrogates. RFC 8259 §7.
			r -= 0x10000
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		json = json[n:]
	}
	return dst
}
