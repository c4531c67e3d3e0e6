package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A document is a parsed file: the checked text of its values, and their
// lines.
type document struct {
	values map[string]any // nested as the file is; a leaf is a string, a []string or a []section
	lines  map[string]int // by the key's whole name; that of a list's entry by "listen[1]"

	references []Reference
	referred   map[string]bool // the keys whose values have parts from variables or files
	warnings   []string        // about unknown keys, each with file and line
}

// value returns the text of a key with a single value. ok is false if the file
// doesn't set the key, or has a wrong value.
func (d document) value(name string) (text string, ok bool) {
	values := d.values
	for section, rest, nested := strings.Cut(name, "."); nested; section, rest, nested = strings.Cut(name, ".") {
		values, _ = values[section].(map[string]any)
		name = rest
	}
	text, ok = values[name].(string)
	return text, ok
}

// parse reads the content of a file that may have the keys of the table, and
// reports all mistakes, each with file and line. If the options skip unknown keys,
// those are no mistakes.
//
// It walks the nodes instead of decoding into the struct. Only nodes have
// lines, duplicate keys and the exact case.
func parse(o Options, keys *table, name string, data []byte, w world) (document, []error) {
	doc := document{values: map[string]any{}, lines: map[string]int{}, referred: map[string]bool{}}
	p := &reader{document: &doc, name: name, data: data, world: w, skipUnknown: o.SkipUnknownKeys}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var file yaml.Node
	switch err := decoder.Decode(&file); {
	case errors.Is(err, io.EOF): // nothing but comments: all defaults
		return doc, nil
	case err != nil:
		return doc, []error{p.syntax(err)}
	}
	doc.values = p.mapping(file.Content[0], scope{keys, ""}, "")
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		p.errs = append(p.errs, p.syntax(err))
	default:
		p.errorf(&second, `a second document begins here: keep one document, without "---"`)
	}
	return doc, p.errs
}

type reader struct {
	*document
	name        string
	data        []byte
	world       world
	skipUnknown bool
	entries     int // of all lists of sections so far
	errs        []error
}

func (p *reader) errorf(at *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %w", p.name, at.Line, fmt.Errorf(format, args...)))
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax returns an error of the YAML library in the form of our errors.
func (p *reader) syntax(err error) error {
	text := err.Error()
	if line := tabbedLine(p.data); line > 0 {
		return fmt.Errorf("%s:%d: this line begins with a tab, which YAML doesn't allow: use blanks", p.name, line)
	}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: not YAML: %s", p.name, m[1], text[len(m[0]):])
	}
	return fmt.Errorf("%s: not YAML: %s", p.name, strings.TrimPrefix(text, "yaml: "))
}

// tabbedLine returns the number of the first line with a tab in its
// indentation, or 0.
func tabbedLine(data []byte) int {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := bytes.TrimLeft(line, " \t")
		if len(bytes.TrimSpace(text)) > 0 && bytes.ContainsRune(line[:len(line)-len(text)], '\t') {
			return number
		}
	}
	return 0
}

// A scope is a table and its place in the file: "" for the file itself,
// "listen[1]" for an entry.
type scope struct {
	*table
	at string
}

// name returns the whole name of a path in the table.
func (s scope) name(path string) string {
	if path == "" {
		return s.at
	}
	return join(s.at, path)
}

// A target is the key that the reader reads, with its whole name.
type target struct {
	Key
	name string
}

// mapping reads one section. The depth of the struct limits its recursion,
// even if an alias names a parent node.
func (p *reader) mapping(node *yaml.Node, in scope, section string) map[string]any {
	values := map[string]any{}
	name := in.name(section)
	node = p.resolve(node)
	if isNull(node) { // a section whose keys are all comments
		return values
	}
	if node.Kind != yaml.MappingNode {
		if name == "" {
			p.errorf(node, `the file has no keys: write "listen: :8080"`)
		} else {
			p.errorf(node, "%s is a section: write its keys below it, indented", name)
		}
		return values
	}
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			p.errorf(key, "a key must be a word")
			continue
		}
		if line, twice := first[key.Value]; twice {
			p.errorf(key, "key %q is a duplicate of line %d: remove one of them", key.Value, line)
			continue
		}
		first[key.Value] = key.Line
		if v, ok := p.entry(key, value, in, section); ok {
			values[key.Value] = v
		}
	}
	return values
}

func (p *reader) entry(key, value *yaml.Node, in scope, section string) (any, bool) {
	path := join(section, key.Value)
	if outer, inner, dotted := strings.Cut(key.Value, "."); dotted && (in.sections[path] || in.key(path).Name != "") {
		p.errorf(key, "key %q has a dot: write %s below %s, indented", key.Value, inner, outer)
		return nil, false
	}
	if in.sections[path] && key.Value != "" {
		return p.mapping(value, in, path), true
	}
	k := in.key(path)
	known := k.Name != ""
	if !known && p.skipUnknown {
		p.warnings = append(p.warnings, fmt.Sprintf("%s:%d: culvert ignores the unknown key %q%s", p.name, key.Line, key.Value, suggestKey(key.Value, value.Kind, in.table, section)))
		return nil, false
	}
	if !known {
		p.errorf(key, "unknown key %q%s", key.Value, suggestKey(key.Value, value.Kind, in.table, section))
		return nil, false
	}
	t := target{k, in.name(path)}
	p.lines[t.name] = key.Line
	value = p.resolve(value)
	switch {
	case k.entries != nil:
		return p.sectionList(value, t)
	case k.List:
		return p.list(value, t)
	default:
		return p.scalar(value, t)
	}
}

// suggestKey ends the error about an unknown key whose value is of the kind. It suggests the
// most similar key of the section, or a key of another section with the same name. For what
// other proxies have, it says what culvert has in its place.
func suggestKey(word string, kind yaml.Kind, in *table, section string) string {
	var siblings, fitting, elsewhere []string
	for _, k := range in.keys {
		rest, inside := k.path, section == ""
		if !inside {
			rest, inside = strings.CutPrefix(k.path, section+".")
		}
		sibling, _, isSection := strings.Cut(rest, ".")
		if inside && plain(sibling) == plain(word) {
			return fmt.Sprintf(": did you mean %q?", sibling)
		}
		if inside {
			siblings = append(siblings, sibling)
			if isSection && kind == yaml.MappingNode || !isSection && k.takes(kind) {
				fitting = append(fitting, sibling)
			}
		}
		if last := k.last(); plain(last) == plain(word) {
			elsewhere = append(elsewhere, k.Name)
		}
	}
	paths := slices.Sorted(maps.Keys(in.sections))
	for _, k := range in.keys {
		paths = append(paths, k.path)
	}
	for _, path := range paths {
		if strings.Contains(path, ".") && plain(strings.ReplaceAll(path, ".", "")) == plain(word) { // backend_tls is backend.tls
			return fmt.Sprintf(": did you mean %q?", path)
		}
	}
	if len(elsewhere) == 1 {
		return fmt.Sprintf(": did you mean %q?", elsewhere[0])
	}
	if said := wishes()[strings.TrimSuffix(plain(word), "s")]; said != "" {
		return ": " + said
	}
	return cmp.Or(didYouMean(word, fitting, "%q"), didYouMean(word, siblings, "%q"), ": the keys here are "+strings.Join(slices.Compact(siblings), ", "))
}

// takes reports whether the key, which is no section, has values of the kind.
func (k Key) takes(kind yaml.Kind) bool {
	if k.List || k.entries != nil {
		return kind == yaml.SequenceNode || kind == yaml.ScalarNode && k.short != ""
	}
	return kind == yaml.ScalarNode
}

// sectionList reads a list of sections, or the single value in its place.
func (p *reader) sectionList(node *yaml.Node, t target) (any, bool) {
	switch {
	case isNull(node) && t.short == "": // a list whose entries are all comments
		return []section{}, true
	case node.Kind == yaml.ScalarNode && t.short != "":
		return p.scalar(node, t)
	case node.Kind != yaml.SequenceNode:
		also := ""
		if t.short != "" {
			also = fmt.Sprintf(", or write a single value: %s: %s", t.last(), quoteIfNeeded(t.example()))
		}
		p.errorf(node, "%s is a list: begin each entry with a dash, and indent its keys below%s", t.name, also)
		return nil, false
	case len(node.Content) > maxEntries:
		p.errorf(node, "%s has %d entries: write at most %d", t.name, len(node.Content), maxEntries)
		return nil, false
	}
	if p.entries += len(node.Content); p.entries > maxAllEntries {
		p.errorf(node, "%s: all lists of sections together have more than %d entries: write fewer", t.name, maxAllEntries)
		return nil, false
	}
	list := make([]section, 0, len(node.Content))
	for i, entry := range node.Content {
		if s, ok := p.sectionEntry(entry, t, Entry(t.name, i)); ok {
			list = append(list, s)
		}
	}
	return list, true
}

func (p *reader) sectionEntry(node *yaml.Node, t target, name string) (section, bool) {
	p.lines[name] = node.Line
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case isNull(node):
		p.errorf(node, "%s is empty: write its keys, or remove the dash", name)
		return nil, false
	case node.Kind == yaml.ScalarNode && t.short != "":
		short := target{t.entries.key(t.short), join(name, t.short)}
		p.lines[short.name] = node.Line
		value, ok := p.scalar(p.resolve(node), short)
		return section{t.short: value}, ok
	}
	before := len(p.errs)
	s := section{}
	s.flatten(p.mapping(node, scope{t.entries, name}, ""), "")
	for _, k := range t.entries.keys {
		if _, set := s[k.path]; k.needed && !set && len(p.errs) == before {
			p.errorf(node, "%s has no %s: write %s: %s", name, k.path, k.last(), quoteIfNeeded(k.example()))
		}
	}
	return s, len(p.errs) == before
}

// flatten adds nested values with their paths as keys.
func (s section) flatten(values map[string]any, path string) {
	for name, value := range values {
		if inner, nested := value.(map[string]any); nested {
			s.flatten(inner, join(path, name))
		} else {
			s[join(path, name)] = value
		}
	}
}

func (p *reader) list(node *yaml.Node, t target) (any, bool) {
	if isNull(node) { // a list whose entries are all comments
		return []string{}, true
	}
	if node.Kind != yaml.SequenceNode {
		entry := t.example()
		if node.Kind == yaml.ScalarNode {
			entry = node.Value // as in the file, if it refers to a secret
		}
		p.errorf(node, "%s is a list: write [%q]", t.name, entry)
		return nil, false
	}
	values := []string{}
	for _, entry := range node.Content {
		if v, ok := p.scalar(p.resolve(entry), t); ok {
			values = append(values, v)
		}
	}
	return values, true
}

// scalar reads one value. Errors show the text in the file, because a
// reference may resolve to a secret.
func (p *reader) scalar(node *yaml.Node, t target) (string, bool) {
	switch {
	case isNull(node):
		p.errorf(node, "%s has no value: write one, or remove the line", t.name)
		return "", false
	case node.Kind != yaml.ScalarNode && t.List:
		p.errorf(node, "an entry of %s must be a single value: write %q", t.name, t.example())
		return "", false
	case node.Kind != yaml.ScalarNode:
		p.errorf(node, "%s must be a single value: write %s: %s", t.name, t.last(), quoteIfNeeded(t.example()))
		return "", false
	}
	dir := filepath.Dir(p.name)
	e, err := p.world.expand(node.Value, dir)
	if e.file != "" {
		p.references = append(p.references, Reference{t.name, e.file})
	}
	if e.referred {
		p.referred[t.name] = true
	}
	value := e.value
	if err != nil {
		p.errorf(node, "%s: %w", t.name, err)
		return "", false
	}
	if _, err := t.kind.parse(value); err != nil {
		if e.file != "" || strings.Contains(node.Value, "${") {
			err = withoutValue(err, t.Key)
		}
		p.errorf(node, "%s: %w", t.name, t.wrong(node.Value, err))
		return "", false
	}
	if t.file && value == "" && node.Value != "" && !strings.Contains(node.Value, ":-") {
		// An empty client_ca would let every client in.
		p.errorf(node, "%s: %q is empty: name a file, or write ${NAME:-} if it may be empty", t.name, node.Value)
		return "", false
	}
	if t.file && value != "" && !filepath.IsAbs(value) {
		value = filepath.Join(dir, value)
	}
	return value, true
}

// withoutValue returns an error of kind.parse without its remedy, because the
// remedy may contain the value.
func withoutValue(err error, k Key) error {
	reason, _, _ := strings.Cut(err.Error(), ": ")
	if k.words != nil { // the reason lists them
		return errors.New(reason)
	}
	return fmt.Errorf("%s: write a value such as %q", reason, k.example())
}

// resolve follows an alias, and refuses an explicit tag, because culvert
// ignores tags.
func (p *reader) resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Style&yaml.TaggedStyle != 0 {
		p.errorf(node, "the tag %s has no meaning here: remove it", node.Tag)
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// plainScalar matches text that YAML reads as the same text without quotes.
var plainScalar = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._/-]*$`)

// quoteIfNeeded returns a text in a form that YAML reads as that text.
func quoteIfNeeded(s string) string {
	if !plainScalar.MatchString(s) || strings.EqualFold(s, "null") {
		return strconv.Quote(s)
	}
	return s
}
