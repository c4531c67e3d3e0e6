package routing

import (
	"errors"
	"fmt"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// A methodKind tells patterns of methods apart by how specific they are. The lower is
// the more specific.
type methodKind uint8

const (
	exactMethod   methodKind = iota // "shop.v1.Orders/Get"
	partOfService                   // "shop.v1.Orders/Get*"
	wholeService                    // "shop.v1.Orders/*"
	glob                            // any other pattern: "shop.v1.*/Get*"
	anyMethod
)

// A pattern matches names of methods without the first slash.
type pattern struct {
	text     string // the whole pattern; of a wholeService the service
	kind     methodKind
	literals int32 // bytes that stand for themselves, outside of classes
	prefix   int32 // the first bytes that do
}

// String returns the pattern as a route can have it.
func (p *pattern) String() string {
	switch p.kind {
	case anyMethod:
		return "*/*"
	case wholeService:
		return p.text + "/*"
	}
	return p.text
}

const special = `*?[\`

// parsePattern returns a pattern as methods.allow has it.
func parsePattern(text string) (pattern, error) {
	service, method, ok := rules.CutPattern(text)
	switch {
	case !ok:
		return pattern{}, errors.New(`is not a method pattern: want "package.Service/Method" with * for any part`)
	case service == "" || method == "":
		return pattern{}, errors.New("can match no method: neither the service nor the method may be empty")
	}
	text = service + "/" + method
	p := pattern{text: text, kind: glob}
	first := strings.IndexAny(text, special)
	switch {
	case first < 0:
		p.kind = exactMethod
	case text == "*/*":
		return pattern{kind: anyMethod}, nil
	case method == "*" && !strings.ContainsAny(service, special):
		p.text, p.kind = service, wholeService
	default:
		p.prefix = int32(first)
		if !strings.ContainsAny(service, special) {
			p.kind = partOfService
		}
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '*', '?':
			continue
		case '[':
			length, err := checkClass(text[i:])
			if err != nil {
				return pattern{}, err
			}
			i += length - 1
			continue
		case '\\':
			i++ // path.Match knows no backslash at the end
		}
		if text[i] != '/' && !rules.PlainByte(text[i]) {
			return pattern{}, errors.New("can match no method: names of services and methods have letters, digits, _ and dots")
		}
		p.literals++
	}
	return p, nil
}

// checkClass returns the length of the class that begins a pattern which path.Match can
// read, such as "[a-z]".
func checkClass(text string) (length int, err error) {
	char := func(s string) (c byte, rest string) {
		if s[0] == '\\' {
			s = s[1:]
		}
		return s[0], s[1:]
	}
	rest := strings.TrimPrefix(text[1:], "^")
	for rest[0] != ']' {
		var first, last byte
		first, rest = char(rest)
		last = first
		if rest[0] == '-' {
			last, rest = char(rest[1:])
		}
		class, _, _ := strings.Cut(text, "]")
		switch {
		case first == '/':
			return 0, errors.New("can match no method: a class can't have the slash between the service and the method")
		case last < first:
			return 0, fmt.Errorf(`can match no method: the class "%s]" has no characters from %q to %q; write the lesser one first`, class, first, last)
		}
	}
	return len(text) - len(rest) + 1, nil
}

func (p *pattern) matches(method string) bool {
	switch p.kind {
	case anyMethod:
		return true
	case exactMethod:
		return p.text == method
	case wholeService:
		return len(method) > len(p.text) && method[len(p.text)] == '/' && method[:len(p.text)] == p.text
	}
	return matchesText(p.text, method)
}

// mayHave reports whether p has one of these wildcards. A sample of another pattern
// doesn't show whether p, with a class such as "[a-z]" or a "?", matches all that the
// other one does: "*" also matches nothing.
func (p *pattern) mayHave(wildcards string) bool {
	return (p.kind == glob || p.kind == partOfService) && strings.ContainsAny(p.text, wildcards)
}

// unlike is in no path, host or metadata that a Match names: only a wildcard matches
// it.
const unlike = "\x01"

// sample returns the service and the name of a method that p matches, and that other
// patterns match only if they match all that p does, as far as one sample can tell.
func (p *pattern) sample() (service, method string) {
	switch p.kind {
	case anyMethod:
		return unlike, unlike
	case wholeService:
		return p.text, unlike
	}
	var b strings.Builder
	for text := p.text; text != ""; {
		c := text[0]
		text = text[1:]
		switch c {
		case '*':
			b.WriteString(strings.Repeat(unlike, 16)) // longer than a few "?" of another pattern
		case '?':
			b.WriteString(unlike)
		case '\\':
			b.WriteByte(text[0]) // a pattern that ends here is an error of path.Match
			text = text[1:]
		case '[':
			first := strings.TrimPrefix(text, `\`)[0]
			if first == '^' {
				b.WriteString(unlike)
			} else {
				b.WriteByte(first)
			}
			text = text[strings.IndexByte(text, ']')+1:]
		default:
			b.WriteByte(c)
		}
	}
	service, method, _ = strings.Cut(b.String(), "/")
	return service, method
}
