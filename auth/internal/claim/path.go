package claim

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

// A Path names a claim: its name, or the names of the objects around it and its own.
type Path []string

// ParsePath reads names with dots between them. A name that has a dot itself, as a URL has, is
// written with \. in its place, and a backslash as \\.
func ParsePath(text string) (Path, error) {
	var p Path
	var name strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '.':
			p = append(p, name.String())
			name.Reset()
		case c == '\\' && (i+1 == len(text) || text[i+1] != '.' && text[i+1] != '\\'):
			return nil, errors.New(`a backslash in a claim's path stands before a dot or another backslash`)
		case c == '\\':
			i++
			name.WriteByte(text[i])
		default:
			name.WriteByte(c)
		}
	}
	p = append(p, name.String())
	return p, p.Check()
}

// Check returns what is wrong with a path that ParsePath hasn't read, or nil.
func (p Path) Check() error {
	if len(p) == 0 || len(p) > 8 {
		return errors.New("a claim's path has one to eight names")
	}
	if slices.Contains(p, "") {
		return errors.New("a claim's path has an empty name")
	}
	return nil
}

// String returns the path as ParsePath reads it.
func (p Path) String() string {
	escape := strings.NewReplacer(`\`, `\\`, `.`, `\.`)
	var names []string
	for _, name := range p {
		names = append(names, escape.Replace(name))
	}
	return strings.Join(names, ".")
}

// Find returns the claim, or nil if it isn't there or is null.
func (p Path) Find(claims object.Object) any {
	var value any = claims
	for _, name := range p {
		around, is := value.(object.Object)
		if !is {
			return nil
		}
		value = around[name]
	}
	return value
}

// Texts returns a claim's value, or those of its list, as texts: strings, numbers as the token
// has them, true and false. It reports false for anything else, also inside a list.
func Texts(value any) ([]string, bool) {
	list, is := value.([]any)
	if !is {
		text, is := text(value)
		return []string{text}, is
	}
	texts := make([]string, len(list))
	for i, member := range list {
		if texts[i], is = text(member); !is {
			return nil, false
		}
	}
	return texts, true
}

// text returns a scalar as text.
func text(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	case bool:
		return strconv.FormatBool(value), true
	}
	return "", false
}
