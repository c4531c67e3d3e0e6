package codec

import (
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// EncodeMessage encodes a status message for the grpc-message header: it writes
// bytes outside 0x20–0x7E and '%' as %XX, and bytes that aren't UTF-8 as the
// encoding of U+FFFD. It writes blanks at either end as %20, since HTTP/1.1 and
// header blocks lose blanks around a value; blanks between other characters stay
// unchanged.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
func EncodeMessage(s string) string {
	if plainMessage(s) {
		return s
	}
	last := len(s) - 1
	b := make([]byte, 0, len(s)+len(s)/2+8)
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' && (i == 0 || i == last), c == '%', c < ' ', c == 0x7F:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			// An invalid byte decodes as U+FFFD of width 1, which is then encoded.
			r, width := utf8.DecodeRuneInString(s[i:])
			var buf [utf8.UTFMax]byte
			for _, c := range utf8.AppendRune(buf[:0], r) {
				b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			}
			i += width
		}
	}
	return string(b)
}

// plainMessage reports whether EncodeMessage leaves s unchanged.
func plainMessage(s string) bool {
	if s == "" {
		return true
	}
	if s[0] == ' ' || s[len(s)-1] == ' ' {
		return false
	}
	return ValidValue(s) && strings.IndexByte(s, '%') < 0
}

// DecodeMessage decodes a grpc-message header. It never fails: a '%' that isn't
// followed by two hexadecimal digits stays unchanged, as PROTOCOL-HTTP2 demands
// ("MUST NOT error or throw away the message"). The result need not be UTF-8.
func DecodeMessage(s string) string {
	i := strings.IndexByte(s, '%')
	if i < 0 {
		return s
	}
	b := make([]byte, i, len(s))
	copy(b, s)
	for ; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high < 16 && low < 16 {
				b = append(b, high<<4|low)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// unhex returns the value of a hexadecimal digit of either case, or 0xFF for
// another byte.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xFF
}
