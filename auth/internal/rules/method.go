package rules

import (
	"errors"
	"fmt"
	"path"
	"strings"

	grammar "github.com/culvert-grpc/culvert/internal/rules"
)

// MethodPatterns are patterns of methods, as methods.allow has them, but without classes and
// backslashes: a rule that a reader takes for another one is worse than two rules.
type MethodPatterns []methodPattern

// A methodPattern matches names of methods without the first slash.
type methodPattern struct {
	text  string // of a wholeService "package.Service/"
	stars glob   // of someMethods
	kind  methodKind
}

type methodKind uint8

const (
	exactMethod  methodKind = iota // "shop.v1.Orders/Get"
	wholeService                   // "shop.v1.Orders/*"
	someMethods                    // with * for other parts
	oneByOne                       // with ? for a character
	anyMethod                      // "*/*"
)

// ParseMethods compiles patterns. The error is a *Mistake of the key.
func ParseMethods(key string, list []string) (MethodPatterns, error) {
	c := condition{key: byMethod, entries: list}
	if mistake := c.compile(); mistake != nil {
		mistake.Rule, mistake.Key = -1, strings.Replace(mistake.Key, byMethod.String(), key, 1)
		return nil, mistake
	}
	return c.methods, nil
}

func parseMethod(text string) (methodPattern, error) {
	service, method, ok := grammar.CutPattern(text)
	switch {
	case strings.ContainsAny(text, `[]\`):
		return methodPattern{}, fmt.Errorf(`is %q, and a rule's patterns have * and ? only: write an entry for each`, text)
	case !ok:
		return methodPattern{}, fmt.Errorf(`is %q: want "package.Service/Method" with * for any part`, text)
	case service == "" || method == "":
		return methodPattern{}, errors.New("can match no method: neither the service nor the method may be empty")
	case strings.ContainsFunc(service+method, func(r rune) bool { return r > '~' || r != '?' && !grammar.PlainByte(byte(r)) }):
		return methodPattern{}, fmt.Errorf("is %q, and can match no method: names of services and methods have letters, digits, _ and dots", text)
	}
	text = service + "/" + method
	switch {
	case text == "*/*":
		return methodPattern{kind: anyMethod}, nil
	case !strings.ContainsAny(text, "*?"):
		return methodPattern{text: text, kind: exactMethod}, nil
	case method == "*" && !strings.ContainsAny(service, "*?"):
		return methodPattern{text: service + "/", kind: wholeService}, nil
	case strings.Contains(text, "?"):
		return methodPattern{text: text, kind: oneByOne}, nil
	default:
		return methodPattern{stars: newGlob(text), kind: someMethods}, nil
	}
}

// find returns the first pattern that matches a method, with or without its first slash, or -1.
func (ps MethodPatterns) find(method string) int {
	name := strings.TrimPrefix(method, "/")
	for i := range ps {
		if ps[i].matches(name) {
			return i
		}
	}
	return -1
}

func (p *methodPattern) matches(name string) bool {
	switch p.kind {
	case exactMethod:
		return p.text == name
	case wholeService:
		return strings.HasPrefix(name, p.text)
	case anyMethod:
		return true
	case someMethods:
		return p.stars.matches(name, slash, false) // path.Match takes four times as long
	default:
		ok, err := path.Match(p.text, name)
		return ok && err == nil
	}
}
