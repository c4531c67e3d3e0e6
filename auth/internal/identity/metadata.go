package identity

import (
	"slices"
	"strings"
)

// ForBackend returns the values of report.IdentityMetadata, "" for those that the identity
// hasn't. They are shared.
func (id *Identity) ForBackend() []string {
	if id.prepared != nil {
		return id.prepared
	}
	return []string{valueOf(id.Subject), valueOf(id.Issuer), string(id.Kind), valueOfAll(id.Scopes)}
}

// Prepare makes ForBackend's values once, for an identity of many calls. Nobody may change the
// identity afterwards. It returns how many bytes the values take, besides the identity's own.
func (id *Identity) Prepare() int {
	const headers = 4 * 16 // of the strings
	id.prepared = id.ForBackend()
	return headers + len(id.prepared[3])
}

// valueOf returns a name as the value of metadata. No two names have the same value: each byte
// outside printable ASCII, each % and a blank at either end is written as % and two
// hexadecimal digits. A backend that ignores this reads most names as they are.
func valueOf(name string) string { return escape(name, false) }

// valueOfAll returns names, such as scopes, as one value with blanks between them. A blank in a
// name is escaped, too, so that it doesn't become two names.
func valueOfAll(names []string) string {
	if slices.ContainsFunc(names, func(name string) bool { return needsEscape(name, true) }) {
		names = slices.Clone(names)
		for i, name := range names {
			names[i] = escape(name, true)
		}
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
