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
// expand doesn't look for references in the replacement. It also returns the
// file that it read or couldn't read, or "".
func (w world) expand(text, dir string) (value, file string, err error) {
	name, isFile := strings.CutPrefix(text, "file:")
	value, err = w.variables(name)
	if err != nil || !isFile {
		return value, "", err
	}
	file = value
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	content, err := w.read(file)
	if err != nil {
		return "", file, err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), file, nil
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variables replaces ${NAME}, ${NAME:-default} and $$.
func (w world) variables(text string) (string, error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String(), nil
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "{"):
			reference, rest, closed := strings.Cut(after[1:], "}")
			if !closed {
				return "", fmt.Errorf(`"${" has no "}": write ${NAME}, or $$ for a dollar sign`)
			}
			value, err := w.variable(reference)
			if err != nil {
				return "", err
			}
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
func (w world) variable(reference string) (string, error) {
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if !variableForm.MatchString(name) {
		return "", fmt.Errorf("${%s} is not the name of a variable: write ${NAME} or ${NAME:-default}", withoutUser(reference))
	}
	value, set := w.lookup(name)
	switch {
	case hasFallback && value == "":
		return fallback, nil
	case !set:
		return "", fmt.Errorf("${%s} is not set in the environment: set it, or write ${%s:-default}", name, name)
	}
	return value, nil
}
