package codec

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// EncodeMessage encodes a status message for the grpc-message header: it writes
// bytes outside 0x20–0x7E and '%' as %XX, and bytes that aren't UTF-8 as the
// encoding of U+FFFD. It writes blanks at either end as %20, since HTTP/1.1 and
// header blocks lose blanks around a value; blanks between other characters stay
// unchanged.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
func EncodeMessage(s string) string {
	if ValidValue(s) && strings.IndexByte(s, '%') < 0 && strings.Trim(s, " ") == s {
		return s
	}
	if !utf8.ValidString(s) {
		s = string([]rune(s)) // each invalid byte becomes U+FFFD
	}
	return percentEncoded(s)
}

// percentEncoded writes bytes outside 0x20–0x7E, '%', and blanks at either end of s as %XX.
func percentEncoded(s string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+len(s)/2+8)
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7E || c == '%' || c == ' ' && (i == 0 || i == len(s)-1) {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
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
			if decoded, err := hex.AppendDecode(b, []byte(s[i+1:i+3])); err == nil {
				b = decoded
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
