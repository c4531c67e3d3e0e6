package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Text may come from a peer, and may be of any length and bytes. In JSON it has at most
// maxText bytes and an ellipsis, and is UTF-8.
type Text string

const maxText = 512

// MarshalText implements encoding.TextMarshaler. As a json.Marshaler, it would have each text
// written, checked and copied, which takes twice as long.
func (t Text) MarshalText() ([]byte, error) { return []byte(Bounded(string(t))), nil }

// Bounded returns text in the length that the pages show, and in memory of its own if it is
// longer: whoever keeps it keeps no more.
func Bounded(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// encode returns JSON without characters that a terminal acts on, or that make text read as
// another one: encoding/json doesn't escape DEL, C1 controls and changes of direction.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer is no JSON: " + err.Error())
	}
	out := make([]byte, 0, len(text)+1)
	for len(text) > 0 {
		plain := 0 // nearly all is ASCII
		for plain < len(text) && ' ' <= text[plain] && text[plain] <= '~' {
			plain++
		}
		if out, text = append(out, text[:plain]...), text[plain:]; len(text) == 0 {
			break
		}
		r, n := utf8.DecodeRune(text)
		switch {
		case unicode.IsPrint(r) && (r != utf8.RuneError || n > 1):
			out = append(out, text[:n]...)
		case r > 0xffff: // two surrogates. RFC 8259 §7.
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[n:]
	}
	return append(out, '\n')
}
