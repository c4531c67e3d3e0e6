package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A document is one parsed file: the text of its values, checked to be what
// their keys want, and the lines they stand in.
type document struct {
	values map[string]any // nested as the file is; a leaf is a string or a []string
	lines  map[string]int // by the key's whole name
}

// parse reads the file's content. It reports everything that is wrong, each
// error with file and line.
//
// It walks the nodes instead of decoding into the struct, since only nodes
// know their line, and know a key that stands twice or in another case.
func parse(name string, data []byte, w world) (document, []error) {
	p := &reader{name: name, world: w, lines: map[string]int{}}
	doc := document{values: map[string]any{}, lines: p.lines}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF): // nothing but comments: all defaults
		return doc, nil
	case err != nil:
		return doc, []error{p.syntax(err)}
	}
	doc.values = p.mapping(root.Content[0], "")
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		p.errs = append(p.errs, p.syntax(err))
	default:
		p.errorf(&second, `a second document begins here: keep one, without "---"`)
	}
	return doc, p.errs
}

type reader struct {
	name  string
	world world
	lines map[string]int
	errs  []error
}

func (p *reader) errorf(at *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %w", p.name, at.Line, fmt.Errorf(format, args...)))
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax gives an error of the YAML library the form of ours.
func (p *reader) syntax(err error) error {
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: no YAML: %s", p.name, m[1], text[len(m[0]):])
	}
	return fmt.Errorf("%s: no YAML: %s", p.name, strings.TrimPrefix(text, "yaml: "))
}

// mapping reads one section. Its depth is bounded by that of the struct, also
// when an alias names a node above itself.
func (p *reader) mapping(node *yaml.Node, section string) map[string]any {
	values := map[string]any{}
	node = p.resolve(node)
	if isNull(node) { // a section whose keys are all comments
		return values
	}
	if node.Kind != yaml.MappingNode {
		if section == "" {
			p.errorf(node, `the file holds no keys: write "listen: :8080"`)
		} else {
			p.errorf(node, "%s holds keys of its own, not a value: write them below it, indented", section)
		}
		return values
	}
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			p.errorf(key, "a key is no word")
			continue
		}
		if line, twice := first[key.Value]; twice {
			p.errorf(key, "key %q stands twice, first in line %d: remove one", key.Value, line)
			continue
		}
		first[key.Value] = key.Line
		if v, ok := p.entry(key, value, section); ok {
			values[key.Value] = v
		}
	}
	return values
}

// entry reads one key of a section and what it holds.
func (p *reader) entry(key, value *yaml.Node, section string) (any, bool) {
	name := join(section, key.Value)
	if outer, inner, dotted := strings.Cut(key.Value, "."); dotted && (sections[name] || keysByName[name].Name != "") {
		p.errorf(key, "key %q holds a dot: write %s below %s, indented", key.Value, inner, outer)
		return nil, false
	}
	if sections[name] && key.Value != "" {
		return p.mapping(value, name), true
	}
	k, known := keysByName[name]
	if !known {
		p.errorf(key, "unknown key %q%s", key.Value, suggestKey(key.Value, section))
		return nil, false
	}
	p.lines[name] = key.Line
	value = p.resolve(value)
	if k.List {
		return p.list(value, k)
	}
	return p.scalar(value, k)
}

// suggestKey ends the sentence about an unknown key: with the nearest of its
// section, else with the whole name of one that belongs elsewhere.
func suggestKey(word, section string) string {
	var siblings, elsewhere []string
	for _, k := range keys {
		rest, inside := k.Name, section == ""
		if !inside {
			rest, inside = strings.CutPrefix(k.Name, section+".")
		}
		sibling, _, _ := strings.Cut(rest, ".")
		if inside && plain(sibling) == plain(word) {
			return fmt.Sprintf(": did you mean %q?", sibling)
		}
		if inside {
			siblings = append(siblings, sibling)
		}
		if last := k.Name[strings.LastIndexByte(k.Name, '.')+1:]; plain(last) == plain(word) {
			elsewhere = append(elsewhere, k.Name)
		}
	}
	if len(elsewhere) == 1 {
		return fmt.Sprintf(": did you mean %q?", elsewhere[0])
	}
	if near := didYouMean(word, siblings, "%q"); near != "" {
		return near
	}
	return ": " + strings.Join(slices.Compact(siblings), ", ") + " can stand here"
}

func (p *reader) list(node *yaml.Node, k Key) (any, bool) {
	if isNull(node) { // a list whose entries are all comments
		return []string{}, true
	}
	if node.Kind != yaml.SequenceNode {
		p.errorf(node, "%s is a list: write [%q]", k.Name, k.kind.example)
		return nil, false
	}
	values := []string{}
	for _, entry := range node.Content {
		if v, ok := p.scalar(p.resolve(entry), k); ok {
			values = append(values, v)
		}
	}
	return values, true
}

// scalar reads one value. What stands in the file is what an error shows: a
// reference may bring in a secret.
func (p *reader) scalar(node *yaml.Node, k Key) (string, bool) {
	switch {
	case isNull(node):
		p.errorf(node, "%s has no value: write one, or remove the line", k.Name)
		return "", false
	case node.Kind != yaml.ScalarNode && k.List:
		p.errorf(node, "an entry of %s is one value: write %q", k.Name, k.kind.example)
		return "", false
	case node.Kind != yaml.ScalarNode:
		p.errorf(node, "%s is one value: write %s: %s", k.Name, k.Name[strings.LastIndexByte(k.Name, '.')+1:], quoteIfNeeded(k.kind.example))
		return "", false
	}
	dir := filepath.Dir(p.name)
	value, err := p.world.expand(node.Value, dir)
	if err != nil {
		p.errorf(node, "%s: %w", k.Name, err)
		return "", false
	}
	if _, err := k.kind.parse(value); err != nil {
		p.errorf(node, "%s: %q %w", k.Name, node.Value, err)
		return "", false
	}
	if k.file && value != "" && !filepath.IsAbs(value) {
		value = filepath.Join(dir, value)
	}
	return value, true
}

// resolve follows an alias, and refuses a tag of the file's own: nothing here
// would act on it.
func (p *reader) resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Style&yaml.TaggedStyle != 0 {
		p.errorf(node, "the tag %s means nothing here: remove it", node.Tag)
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// plainScalar is what YAML reads as its own text, and nobody as anything else.
var plainScalar = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._/-]*$`)

// quoteIfNeeded writes a text so that YAML reads it as that text.
func quoteIfNeeded(s string) string {
	if !plainScalar.MatchString(s) || strings.EqualFold(s, "null") {
		return strconv.Quote(s)
	}
	return s
}
