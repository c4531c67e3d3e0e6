package routing

import (
	"errors"
	"path"
	"strings"
)

// A methodKind tells patterns of methods apart by how specific they are. The lower is
// the more specific.
type methodKind uint8

const (
	exactMethod methodKind = iota // "shop.v1.Orders/Get"
	wholeService
	glob // any other pattern
	anyMethod
)

// A pattern matches names of methods without the first slash.
type pattern struct {
	text     string // the whole pattern; of a wholeService the service
	kind     methodKind
	literals int // bytes of a glob that stand for themselves, outside of classes
	prefix   int // the first bytes of a glob that do
}

// String returns the pattern as a route can have it.
func (p *pattern) String() string {
	switch p.kind {
	case anyMethod:
		return "*/*"
	case wholeService:
		return p.text + "/*"
	case exactMethod, glob:
	}
	return p.text
}

const special = `*?[\`

var errPattern = errors.New(`is not a method pattern: want "package.Service/Method" with * for any part`)

// parsePattern returns a pattern as methods.allow has it.
func parsePattern(text string) (pattern, error) {
	text = strings.TrimPrefix(text, "/")
	service, method, slash := strings.Cut(text, "/")
	if _, err := path.Match(text, ""); err != nil || !slash || strings.Contains(method, "/") {
		return pattern{}, errPattern
	}
	if service == "" || method == "" {
		return pattern{}, errors.New("can match no method: neither the service nor the method may be empty")
	}
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
		p.prefix = first
	}
	inClass := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' {
			i++ // path.Match knows no backslash at the end
			c = text[i]
		} else if strings.IndexByte(special, c) >= 0 || inClass {
			if c == '/' {
				return pattern{}, errors.New("can match no method: a class can't have the slash between the service and the method")
			}
			inClass = c == '[' || inClass && c != ']'
			continue
		}
		if c != '/' && !plainByte(c) {
			return pattern{}, errors.New("can match no method: names of services and methods have letters, digits, _ and dots")
		}
		if !inClass {
			p.literals++
		}
	}
	return p, nil
}

// matches reports whether p matches a method.
func (p *pattern) matches(method string) bool {
	switch p.kind {
	case anyMethod:
		return true
	case exactMethod:
		return p.text == method
	case wholeService:
		return len(method) > len(p.text) && method[len(p.text)] == '/' && method[:len(p.text)] == p.text
	case glob:
	}
	ok, err := path.Match(p.text, method)
	return ok && err == nil
}

// mayHave reports whether p has one of these wildcards. A sample of another pattern
// doesn't show whether p, with a class such as "[a-z]" or a "?", matches all that the
// other one does: "*" also matches nothing.
func (p *pattern) mayHave(wildcards string) bool {
	return p.kind == glob && strings.ContainsAny(p.text, wildcards)
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
	case exactMethod, glob:
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
