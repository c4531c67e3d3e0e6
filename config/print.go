package config

import (
	"bytes"
	_ "embed" // for the file of defaults
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// DefaultsFile is a configuration file that has every key with its default and
// its comment. All keys are commented out: "#key: value". go generate writes it.
//
//go:embed defaults.yaml
var DefaultsFile string

// hidden replaces a secret.
const hidden = "(hidden)"

// Print writes the configuration as a file that has the same effect. A comment
// gives the source of each value: a flag, a variable, a line of the file, or
// the default. Keys that nothing sets are commented out ("#key: value"),
// because some checks and defaults depend on IsSet. Secrets are replaced: values
// of keys that hold one, and values that the file takes from a variable (${NAME}) or from
// another file.
func (l *Loaded) Print(w io.Writer) error {
	lines := l.print(fileKeys, reflect.ValueOf(&l.Config).Elem(), "")
	column := 0
	for _, line := range lines {
		if width := utf8.RuneCountInString(line.text); line.source != "" && width <= maxSourceColumn {
			column = max(column, width)
		}
	}
	var out bytes.Buffer
	for _, line := range lines {
		if line.source != "" {
			line.text += strings.Repeat(" ", max(column-utf8.RuneCountInString(line.text), 0)) + "  # " + line.source
		}
		out.WriteString(line.text + "\n")
	}
	_, err := w.Write(out.Bytes())
	return err
}

// maxSourceColumn keeps one long value from moving all sources to the right.
const maxSourceColumn = 48

// A printedLine is a line of Print. Its source is "" for a section, which has
// none.
type printedLine struct{ text, source string }

// print returns the lines of a table: all its keys, or of an entry, whose name
// is at, those that the entry sets. The file's own keys are below their
// sections, in the order of the struct.
func (l *Loaded) print(t *table, of reflect.Value, at string) []printedLine {
	var lines []printedLine
	var open []string // the sections that the last line is in
	for _, k := range t.keys {
		name := join(at, k.path)
		if at != "" && !l.IsSet(name) {
			continue
		}
		sections := strings.Split(k.path, ".")
		sections = sections[:len(sections)-1]
		for i, s := range sections {
			if i >= len(open) || open[i] != s {
				section := join(at, strings.Join(sections[:i+1], "."))
				lines = append(lines, printedLine{text: strings.Repeat("  ", i) + mark(l.setsBelow(section)) + s + ":"})
				open = sections[:i+1]
			}
		}
		open = sections
		lines = append(lines, l.printKey(k, of, name, strings.Repeat("  ", len(sections)))...)
	}
	return lines
}

// mark returns the text before a key that comments it out unless it is set.
func mark(set bool) string {
	if set {
		return ""
	}
	return "#"
}

func (l *Loaded) setsBelow(section string) bool {
	for name := range l.origins {
		if strings.HasPrefix(name, section+".") {
			return true
		}
	}
	return false
}

func (l *Loaded) printKey(k Key, of reflect.Value, name, indent string) []printedLine {
	field := of.FieldByIndex(k.index)
	line := printedLine{indent + mark(l.IsSet(name)) + k.last() + ":", l.sourceOf(name)}
	if k.entries == nil {
		value := k.text(of)
		if name == "limits.buffered_bytes" && l.Limits.Memory > 0 {
			value = l.BufferedBytes(l.Limits.Memory).String()
		}
		switch secret := l.isSecret(k, name); {
		case secret && k.List:
			value = []string{hidden}
		case secret && value != "":
			value = hidden
		case k.file:
			value = absolute(value)
		case k.kind.name == kindsByTag["https url"].name:
			value = withoutQuery(value)
		}
		line.text += " " + written(&k, value)
		if !isUTF8(value) {
			line.text = indent + "#" + strings.TrimPrefix(strings.TrimPrefix(line.text, indent), "#")
			line.source += ", not UTF-8, so a file can't hold it"
		}
		return []printedLine{line}
	}
	if field.Len() == 0 {
		line.text += " []"
		return []printedLine{line}
	}
	if k.short != "" && field.Len() == 1 {
		if !slices.ContainsFunc(k.entries.keys, func(e Key) bool { return e.path != k.short && l.IsSet(join(Entry(name, 0), e.path)) }) {
			e := k.entries.key(k.short)
			value := e.text(field.Index(0))
			if l.isSecret(k, name) || l.isSecret(e, join(Entry(name, 0), e.path)) {
				value = hidden
			}
			line.text += " " + written(&e, value)
			return []printedLine{line}
		}
	}
	lines := []printedLine{line}
	for i := range field.Len() {
		lines = append(lines, l.printEntry(k.entries, field.Index(i), Entry(name, i), indent+"  ")...)
	}
	return lines
}

// printEntry returns the lines of one entry of a list of sections. The keys
// that it inherits stand in a comment: written out, they would be its own.
func (l *Loaded) printEntry(t *table, entry reflect.Value, name, indent string) []printedLine {
	lines := l.print(t, entry, name)
	var inherited []string
	for _, e := range t.keys {
		if field := entry.FieldByIndex(e.index); l.Source(join(name, e.path)) != join(name, e.path) && !field.IsZero() {
			inherited = append(inherited, e.like)
		}
	}
	if inherited != nil {
		lines = append(lines, printedLine{text: "# inherits " + strings.Join(inherited, ", ")})
	}
	for i := range lines {
		dash := "  "
		if i == 0 {
			dash = "- "
		}
		lines[i].text = indent + dash + lines[i].text
	}
	return lines
}

// sourceOf returns the place that gives a key its value.
func (l *Loaded) sourceOf(name string) string {
	if o, set := l.origins[name]; set {
		return o.place
	}
	if why := l.derived[name]; why != "" {
		return "derived: " + why + " is set"
	}
	switch {
	case name != "limits.buffered_bytes":
		return "default"
	case l.Limits.Memory > 0:
		return "default, lowered to what limits.memory allows"
	default:
		return "default; lower if GOMEMLIMIT or the container limits the memory"
	}
}

// isSecret reports whether Print must hide a value: the key is for secrets, or
// the file has a reference there, and neither a flag nor a variable replaces it.
func (l *Loaded) isSecret(k Key, name string) bool { return k.secret || l.origins[name].secret }

// absolute makes paths absolute. A printed file may be in any directory, and
// culvert takes its relative paths from there.
func absolute(value any) any {
	one := func(name string) string {
		if whole, err := filepath.Abs(name); err == nil && name != "" {
			return whole
		}
		return name
	}
	list, ok := value.([]string)
	if !ok {
		return one(value.(string))
	}
	whole := make([]string, len(list))
	for i := range list {
		whole[i] = one(list[i])
	}
	return whole
}

// withoutQuery hides the query of a URL, which may have a token.
func withoutQuery(value any) any {
	address, _, found := strings.Cut(value.(string), "?")
	if !found {
		return value
	}
	return address + "?" + hidden
}

func isUTF8(value any) bool {
	if list, ok := value.([]string); ok {
		return !slices.ContainsFunc(list, func(s string) bool { return !utf8.ValidString(s) })
	}
	return utf8.ValidString(value.(string))
}

// written returns the result of Key.text in one line, in the form of a file.
func written(k *Key, text any) string {
	switch v := text.(type) {
	case []string:
		quoted := make([]string, len(v))
		for i := range v {
			quoted[i] = quoteIfNeeded(escape(v[i]))
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case string:
		return quoteIfNeeded(escape(shortDuration(k, v)))
	default:
		panic(fmt.Sprintf("BUG: config: a value of type %T", text))
	}
}

// escape protects a text from expansion. A text that begins with "file:" gets
// this beginning from the default of a variable. culvert refuses to start with
// such a variable, because CULVERT_ is the prefix of its own.
func escape(s string) string {
	s = strings.ReplaceAll(s, "$", "$$")
	if rest, ok := strings.CutPrefix(s, "file:"); ok {
		return "${" + envPrefix + ":-file:}" + rest
	}
	return s
}

var zeroParts = regexp.MustCompile(`([hm])0[ms](0s)?$`)

// shortDuration shortens the 5m0s of time.Duration to 5m.
func shortDuration(k *Key, s string) string {
	if k.kind.pattern != durationPattern {
		return s
	}
	return zeroParts.ReplaceAllString(s, "$1")
}
