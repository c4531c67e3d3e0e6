package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// A world resolves references: in the process's own environment, or in a
// test's.
type world struct {
	lookup func(variable string) (string, bool)
	read   func(file string) ([]byte, error)
}

// expand replaces the references in one scalar of a file in dir: ${NAME} and
// ${NAME:-default} with a variable, and $$ with $. A text with the prefix
// file: becomes the content of that file, without a newline at its end.
//
// expand doesn't look for references in the replacement. The text itself has no part that
// referred reports: the value of a variable, or of a file.
func (w world) expand(text, dir string) (e expansion, err error) {
	name, isFile := strings.CutPrefix(text, "file:")
	e.value, e.referred, err = w.variables(name)
	if err != nil || !isFile {
		return e, err
	}
	e.file, e.referred = e.value, true
	if !filepath.IsAbs(e.file) {
		e.file = filepath.Join(dir, e.file)
	}
	content, err := w.read(e.file)
	e.value = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	return e, err
}

// An expansion is a text without references.
type expansion struct {
	value    string
	file     string // that expand read or couldn't read, or ""
	referred bool   // a part of value comes from a variable or a file, and may be a secret
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variables replaces ${NAME}, ${NAME:-default} and $$.
func (w world) variables(text string) (value string, referred bool, err error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String(), referred, nil
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "{"):
			reference, rest, closed := strings.Cut(after[1:], "}")
			if !closed {
				return "", false, fmt.Errorf(`"${" has no "}": write ${NAME}, or $$ for a dollar sign`)
			}
			value, isDefault, err := w.variable(reference)
			if err != nil {
				return "", false, err
			}
			referred = referred || !isDefault
			out.WriteString(value)
			text = rest
		default:
			out.WriteByte('$')
			text = after
		}
	}
}

// variable resolves the text inside one ${…}. As in a shell, the default in
// ${NAME:-default} also replaces an empty value.
func (w world) variable(reference string) (value string, isDefault bool, err error) {
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if !variableForm.MatchString(name) {
		return "", false, fmt.Errorf("${%s} is not the name of a variable: write ${NAME} or ${NAME:-default}", withoutUser(reference))
	}
	value, set := w.lookup(name)
	switch {
	case hasFallback && value == "":
		return fallback, true, nil
	case !set:
		return "", false, fmt.Errorf("${%s} is not set in the environment: set it, or write ${%s:-default}", name, name)
	}
	return value, false, nil
}
