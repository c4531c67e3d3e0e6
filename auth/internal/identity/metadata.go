package identity

import "strings"

// Value returns a name as the value of metadata. No two names have the same value: each byte
// outside printable ASCII, each % and a blank at either end is written as % and two
// hexadecimal digits. A backend that ignores this reads most names as they are.
func Value(name string) string { return escape(name, false) }

// Values returns names, such as scopes, as one value with blanks between them. A blank in a
// name is escaped, too, so that it doesn't become two names.
func Values(names []string) string {
	for i, name := range names {
		if !needsEscape(name, true) {
			continue
		}
		escaped := make([]string, len(names))
		copy(escaped, names[:i])
		for k := i; k < len(names); k++ {
			escaped[k] = escape(names[k], true)
		}
		return strings.Join(escaped, " ")
	}
	return strings.Join(names, " ")
}

func escape(name string, blanks bool) string {
	if !needsEscape(name, blanks) {
		return name
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c == '%' || c < ' ' || c > '~' || c == ' ' && (blanks || i == 0 || i == len(name)-1) {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// needsEscape reports whether escape changes the name. Each call asks it.
func needsEscape(name string, blanks bool) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '%' {
			if c != ' ' || blanks || i == 0 || i == len(name)-1 {
				return true
			}
		}
	}
	return false
}
