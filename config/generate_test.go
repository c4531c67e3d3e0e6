package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The generator of the files below lives in this test: what writes them and
// what holds them equal to the struct is the same code, and neither is in the
// shipped program. `go generate ./config` runs it with -update.
var update = flag.Bool("update", false, "write the generated files")

func TestGeneratedFilesMatchTheStruct(t *testing.T) {
	defaults := Defaults()
	root := readStruct(t)
	for path, want := range map[string][]byte{
		"defaults.yaml":                      defaultsFile(root, &defaults),
		"../docs/proxy.schema.json":          schemaFile(root, &defaults),
		"../docs/reference/configuration.md": referenceFile(root, &defaults),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Error(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s isn't what the struct says (%v): run `go generate ./config`", path, err)
		}
	}
}

// An entry is a key or a section, with its comment.
type entry struct {
	name     string // in its section
	doc      string
	key      *Key   // nil for a section
	as       string // the section of the file whose keys mean the same
	of       reflect.Type
	children []entry
}

// readStruct joins what reflection knows (keys, kinds) with what only the
// source has (comments).
func readStruct(t testing.TB) entry {
	t.Helper()
	docs := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			readComments(t, name, docs)
		}
	}
	return entry{children: entriesOf(t, reflect.TypeFor[Config](), fileKeys, "", docs)}
}

// readComments adds the comments of a file's structs, by "Type.Field".
func readComments(t testing.TB, name string, docs map[string]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					docs[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
				}
			}
		}
		return true
	})
}

func entriesOf(t testing.TB, of reflect.Type, in *table, section string, docs map[string]string) []entry {
	var entries []entry
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			entries = append(entries, entriesOf(t, f.Type, in, section, docs)...)
			continue
		}
		e := entry{name: f.Tag.Get("key"), doc: docs[of.Name()+"."+f.Name], of: f.Type}
		if e.doc == "" {
			t.Errorf("%s.%s has no comment: it is the only documentation of its key", of.Name(), f.Name)
		}
		switch k, ok := in.byPath[join(section, e.name)]; {
		case ok && k.entries != nil:
			e.key = &k
			e.children = entriesOf(t, f.Type.Elem(), k.entries, "", docs)
		case ok:
			e.key = &k
		default:
			e.children = entriesOf(t, f.Type, in, join(section, e.name), docs)
			for i := range e.children {
				e.children[i].as = f.Tag.Get("as")
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// valueOf writes a key's value in its struct as the file has it.
func valueOf(k *Key, of any) string { return inFlow(k, k.text(reflect.ValueOf(of).Elem())) }

// inFlow is written for lists of sections, too.
func inFlow(k *Key, text any) string {
	v, ok := text.([]section)
	if !ok {
		return written(k, text)
	}
	if short, ok := k.shortForm(v); ok {
		return quoteIfNeeded(escape(short))
	}
	entries := make([]string, len(v))
	for i := range v {
		entries[i] = flow(k.entries, v[i], "")
	}
	return "[" + strings.Join(entries, ", ") + "]"
}

// flow writes an entry of a list of sections in one line.
func flow(in *table, s section, below string) string {
	var parts []string
	opened := map[string]bool{}
	for _, k := range in.keys {
		value, set := s[k.path]
		rest, inside := k.path, true
		if below != "" {
			rest, inside = strings.CutPrefix(k.path, below+".")
		}
		if !set || !inside {
			continue
		}
		name, _, nested := strings.Cut(rest, ".")
		switch {
		case !nested:
			parts = append(parts, name+": "+inFlow(&k, value))
		case !opened[name]:
			opened[name] = true
			parts = append(parts, name+": "+flow(in, s, join(below, name)))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

const defaultsHead = `# Every key of culvert, with its default. Keep the keys that you change, and
# remove the rest.
#
#   culvert validate --config proxy.yaml
#   culvert serve --config proxy.yaml
#
# A flag or a CULVERT_ variable wins over this file. In a value, ${NAME} and
# ${NAME:-default} stand for a variable of the environment, $$ for a dollar
# sign, and file:/path for the content of that file.
`

func defaultsFile(root entry, c *Config) []byte {
	var b bytes.Buffer
	b.WriteString(defaultsHead)
	writeDefaults(&b, root.children, c, "")
	return b.Bytes()
}

func writeDefaults(b *bytes.Buffer, entries []entry, c *Config, indent string) {
	for i, e := range entries {
		if i > 0 || indent == "" {
			b.WriteByte('\n')
		}
		for line := range strings.Lines(e.doc) {
			fmt.Fprintln(b, strings.TrimRight(indent+"# "+line, " \n"))
		}
		if e.key == nil {
			fmt.Fprintf(b, "%s%s:\n", indent, e.name)
			writeDefaults(b, e.children, c, indent+"  ")
			continue
		}
		if names := alsoSetBy(e.key, "", ""); names != "" {
			fmt.Fprintf(b, "%s# %s\n", indent, names)
		}
		fmt.Fprintf(b, "%s%s: %s\n", indent, e.name, valueOf(e.key, c))
		if e.children != nil {
			fmt.Fprintf(b, "%s# A list of sections with these keys:\n%s# %s:\n", indent, indent, e.name)
			writeEntryExample(b, e.children, indent+"#   - ", indent+"#     ")
		}
	}
}

// writeEntryExample shows, in a comment, what an entry of a list of sections
// can hold. It shows examples, not defaults: an entry exists to differ from
// them. It only names the keys that mean the same as one of the file's.
func writeEntryExample(b *bytes.Buffer, entries []entry, first, indent string) {
	var same []string
	for i, e := range entries {
		if i > 0 && len(same) == 0 {
			first = indent
			fmt.Fprintln(b, strings.TrimRight(indent, " "))
		}
		if key := e.sameAs(); key != "" {
			same = append(same, e.name)
			if i+1 == len(entries) || entries[i+1].sameAs() == "" {
				where := "at the top level"
				if section, _, nested := strings.Cut(key, "."); nested {
					where = "in " + section
				}
				also := "Also "
				if len(same) == len(entries) {
					also = ""
				}
				b.WriteString(wrapped(also+strings.Join(same, ", ")+": as "+where+".", indent+"# "))
				same = nil
			}
			continue
		}
		for line := range strings.Lines(e.doc) {
			fmt.Fprintln(b, strings.TrimRight(first+"# "+line, " \n"))
			first = indent
		}
		switch {
		case e.key == nil:
			fmt.Fprintf(b, "%s%s:\n", indent, e.name)
			writeEntryExample(b, e.children, indent+"  ", indent+"  ")
		case e.key.entries != nil:
			fmt.Fprintf(b, "%s%s:\n", indent, e.name)
			writeEntryExample(b, e.children, indent+"  - ", indent+"    ")
		case e.key.List:
			fmt.Fprintf(b, "%s%s: [%s]\n", indent, e.name, quoteIfNeeded(escape(e.key.example())))
		default:
			fmt.Fprintf(b, "%s%s: %s\n", indent, e.name, quoteIfNeeded(escape(e.key.example())))
		}
	}
}

// wrapped breaks a text into lines of at most 80 characters.
func wrapped(text, prefix string) string {
	var b strings.Builder
	line := prefix
	for word := range strings.FieldsSeq(text) {
		if line != prefix && len(line)+len(word) >= 80 {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = prefix
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}

// sameAs returns the key of the file that an entry's key means the same as, ""
// if there is none.
func (e entry) sameAs() string {
	switch {
	case e.key == nil:
		return ""
	case e.as != "":
		return join(e.as, e.name)
	}
	return e.key.like
}

func alsoSetBy(k *Key, before, after string) string {
	var names []string
	if k.Env != "" {
		names = append(names, before+k.Env+after)
	}
	if k.Flag != "" {
		names = append(names, before+"--"+k.Flag+after)
	}
	return strings.Join(names, ", ")
}

func oneLine(doc string) string { return strings.Join(strings.Fields(doc), " ") }

type schema = map[string]any

func schemaFile(root entry, c *Config) []byte {
	s := sectionSchema(root.children, c)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "culvert"
	s["description"] = "Configuration of culvert. Generated from its struct; docs/reference/configuration.md explains the same keys."
	s["type"] = "object"
	s["$defs"] = schema{"reference": schema{
		"description": "${NAME} or ${NAME:-default} of the environment, or file:/path",
		"type":        "string",
		"pattern":     `\$\{|^file:`,
	}}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// sectionSchema describes a section of the struct that of points to.
func sectionSchema(entries []entry, of any) schema {
	properties, needed := schema{}, []string{}
	for _, e := range entries {
		var s schema
		if e.key == nil {
			s = sectionSchema(e.children, of)
		} else {
			s = keySchema(e, of)
			if e.key.needed {
				needed = append(needed, e.name)
			}
			if e.key.unset != "" {
				s["default"] = e.key.unset
			}
			if e.key.like != "" || e.key.needed { // another key has the default, or nothing
				delete(s, "default")
			}
		}
		s["description"] = oneLine(e.doc)
		properties[e.name] = s
	}
	s := schema{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
	if len(needed) > 0 {
		s["required"] = needed
		s["type"] = "object"
	}
	return s
}

// entriesSchema describes a list of sections: as a list, or as the single
// value, which may also be an entry.
func entriesSchema(e entry, of any) schema {
	item := sectionSchema(e.children, reflect.New(e.of.Elem()).Interface())
	item["type"] = "object"
	if e.key.short == "" {
		return schema{"type": []string{"array", "null"}, "items": item, "maxItems": maxEntries}
	}
	single := schema{"type": "string", "minLength": 1}
	s := schema{"oneOf": []schema{single, {"type": "array", "items": schema{"oneOf": []schema{single, item}}, "maxItems": maxEntries}}}
	if short, ok := e.key.shortForm(e.key.text(reflect.ValueOf(of).Elem()).([]section)); ok {
		s["default"] = short
	}
	return s
}

func keySchema(e entry, of any) schema {
	if e.key.entries != nil {
		return entriesSchema(e, of)
	}
	if e.key.List {
		item := schema{"type": "string", "minLength": 1}
		if e.key.words != nil {
			item = schema{"anyOf": []schema{{"$ref": "#/$defs/reference"}, {"enum": e.key.words}}}
		}
		return schema{"type": []string{"array", "null"}, "items": item, "default": e.key.text(reflect.ValueOf(of).Elem())}
	}
	value := reflect.ValueOf(of).Elem().FieldByIndex(e.key.index)
	forms := []schema{{"$ref": "#/$defs/reference"}}
	byDefault := value.Interface()
	switch {
	case e.key.words != nil:
		forms = append(forms, schema{"enum": e.key.words})
	case e.of == reflect.TypeFor[bool]():
		forms = append(forms, schema{"type": "boolean"})
	case e.of == reflect.TypeFor[int]():
		least := 0
		if _, err := e.key.kind.parse("0"); err != nil {
			least = 1
		}
		forms = append(forms, schema{"type": "integer", "minimum": least, "maximum": maxNumber})
	case e.of == reflect.TypeFor[Size]():
		forms = append(forms, schema{"type": "integer", "minimum": 1}, schema{"type": "string", "pattern": e.key.kind.pattern})
		byDefault = fmt.Sprint(byDefault)
	case e.of == reflect.TypeFor[time.Duration]():
		forms = append(forms, schema{"const": 0}, schema{"type": "string", "pattern": e.key.kind.pattern})
		byDefault = shortDuration(e.key, fmt.Sprint(byDefault))
	default:
		return schema{"type": "string", "default": byDefault}
	}
	return schema{"anyOf": forms, "default": byDefault}
}

const referenceHead = `# Configuration

For people who run culvert: every key, its default, its flag and its variable.

culvert needs only the address of the backend: ` + "`culvert serve --backend localhost:9000`" + `.
Set other keys in a file, with variables or with flags.

| To | Use |
|---|---|
| start a file | [proxy.yaml](../../proxy.yaml), with the keys that most people set |
| print all keys with their defaults | ` + "`culvert config defaults`" + ` |
| print the effective configuration and the source of each value | ` + "`culvert config print`" + ` |
| check a configuration without serving | ` + "`culvert validate`" + ` |
| have an editor check a file | [proxy.schema.json](../proxy.schema.json) |

## Sources

A flag wins over a variable, a variable over the file, and the file over the
default.

- **File**: YAML. Name it with ` + "`--config`" + ` or ` + "`CULVERT_CONFIG`" + `. culvert reports
  an unknown or duplicate key as an error, with its line. A relative path in the
  file starts at the directory of the file.
- **Variables**: ` + "`CULVERT_`" + ` and the key in upper case, with ` + "`_`" + ` for each dot:
  ` + "`backend.tls.ca`" + ` is ` + "`CULVERT_BACKEND_TLS_CA`" + `. An empty variable counts as unset.
  An unknown variable is an error, except for those that Kubernetes sets for a
  service named culvert. Separate the values of a list with blanks. Lists of
  sections have no variable.
- **Flags**: repeat the flag of a list for each value. These values replace the
  list in the file.

These references work in the values of the file only:

| Reference | Value |
|---|---|
| ` + "`${NAME}`" + ` | the variable of the environment; an error if it isn't set |
| ` + "`${NAME:-default}`" + ` | the variable, or the default if the variable is empty or isn't set |
| ` + "`$$`" + ` | a dollar sign |
| ` + "`file:/path`" + ` | the content of the file, without the end of its last line |

culvert takes the value of a reference as plain text: it doesn't look for YAML or
for other references in it.

## Values

| Kind | Form |
|---|---|
| duration | a number with ` + "`ms`, `s`, `m` or `h`: `500ms`, `30s`, `1h30m`" + ` |
| size | a number with ` + "`B`, `KiB`, `MiB` or `GiB`: `64KiB`, `16MiB`; `k`, `kB`, `M`, `MB` are the same units" + ` |
| address | ` + "`host:port` or `:port`" + `; an IPv6 address in brackets |
| list | ` + "`[a, b]`" + `, or a line with a dash for each value |
| list of sections | a dash for each section, with its keys indented below |

## Top level
`

const referenceTail = `
## Next

- [commands and flags](cli.md)
- [what an error means](errors.md)
- [which metadata passes](metadata.md)
- [what happens to a call](../how-it-works/calls.md)
`

func referenceFile(root entry, c *Config) []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	writeReference(&b, entry{children: root.children}, c, "")
	b.WriteString(referenceTail)
	return b.Bytes()
}

// writeReference describes a section of the struct that of points to: its keys,
// and then the sections in it.
func writeReference(b *bytes.Buffer, section entry, of any, name string) {
	if name != "" {
		fmt.Fprintf(b, "\n## `%s`\n", name)
	}
	if section.doc != "" {
		fmt.Fprintf(b, "\n%s\n", asMarkdown(section.doc))
	}
	b.WriteByte('\n')
	var inner []func()
	var inherited, same []string
	var list func(entries []entry, below string)
	list = func(entries []entry, below string) {
		for _, e := range entries {
			key := join(below, e.name)
			switch inEntry := strings.HasSuffix(name, "[]"); {
			case e.as != "":
				same = append(same, strings.TrimPrefix(key, name+"."))
			case e.sameAs() != "":
				inherited = append(inherited, strings.TrimPrefix(key, name+"."))
			case e.key != nil:
				anchor := fmt.Sprintf("<a id=%q></a>", strings.Map(inAnchor, key))
				if e.key.entries != nil { // the heading of its entries has it
					anchor = ""
				}
				fmt.Fprintf(b, "- %s**`%s`** · %s<br>%s\n", anchor, key, strings.Join(factsOf(e, of, inEntry), " · "), inBullet(e.doc))
				if e.key.entries != nil {
					inner = append(inner, func() {
						writeReference(b, entry{children: e.children}, reflect.New(e.of.Elem()).Interface(), key+"[]")
					})
				}
			case inEntry: // its keys stand beside those of the entry
				fmt.Fprintf(b, "- **`%s`** · section<br>%s\n", key, inBullet(e.doc))
				list(e.children, key)
			default:
				inner = append(inner, func() { writeReference(b, e, of, key) })
			}
		}
	}
	list(section.children, name)
	if inherited != nil {
		fmt.Fprintf(b, "\nAn entry can also set `%s`. They mean the same as these keys of the file. Unset keys inherit from the file.\n", strings.Join(inherited, "`, `"))
	}
	if same != nil {
		fmt.Fprintf(b, "\nAn entry can also set `%s`. They mean the same as these keys of the file.\n", strings.Join(same, "`, `"))
	}
	for _, write := range inner {
		write()
	}
}

var listItem = regexp.MustCompile(`(?m)^\s*- `)

// inBullet writes a comment as a part of a bullet: each paragraph in a line, and
// the items of a list in it as bullets of their own.
func inBullet(doc string) string {
	var paragraphs []string
	for _, p := range strings.Split(doc, "\n\n") {
		if !listItem.MatchString(p) {
			paragraphs = append(paragraphs, asMarkdown(oneLine(p)))
			continue
		}
		var list string
		for _, item := range listItem.Split(p, -1)[1:] {
			list += "\n  - " + asMarkdown(oneLine(item))
		}
		paragraphs[len(paragraphs)-1] += list
	}
	return strings.Join(paragraphs, "\n\n  ")
}

// inAnchor makes the anchor that a heading of a key's name would have on GitHub.
func inAnchor(r rune) rune {
	if strings.ContainsRune(".[]", r) {
		return -1
	}
	return r
}

// factsOf returns the kind of a key's value, its default and its flag.
func factsOf(e entry, of any, inEntry bool) []string {
	k, kind := e.key, e.key.kind.name
	if k.words != nil {
		kind = "`" + strings.Join(k.words, "`, `") + "`"
	}
	switch {
	case k.List && k.words != nil:
		kind = "list of " + kind
	case k.List:
		kind = "list of " + cmp.Or(plurals[kind], kind+"s")
	case k.short != "":
		kind += ", or list of sections"
	case k.entries != nil:
		kind = "list of sections"
	}
	facts := []string{kind}
	switch value := strings.Trim(valueOf(k, of), `"`); {
	case k.needed:
		facts = append(facts, "required")
	case !inEntry && value != "" && value != "[]" && !strings.Contains(e.doc, "Default:"):
		facts = append(facts, "default `"+value+"`")
	}
	if k.Flag != "" {
		facts = append(facts, "`--"+k.Flag+"`")
	}
	return facts
}

var plurals = map[string]string{"address or network": "addresses or networks", "address of a name server": "addresses of name servers"}

var (
	quotation = regexp.MustCompile(`"([^"\n]*)"`)
	keyName   = regexp.MustCompile("(^|[^`./\\w-])([a-z]+(?:[._][a-z]+)+)")
	pageName  = regexp.MustCompile(`docs/(\w[\w/-]*/([\w-]+)\.md(?:#[\w-]+)?)`)
)

// asMarkdown marks what is quoted, the names of keys, and pages.
func asMarkdown(doc string) string {
	doc = quotation.ReplaceAllStringFunc(doc, func(q string) string {
		if q == `""` {
			return "`\"\"`"
		}
		return "`" + strings.Trim(q, `"`) + "`"
	})
	doc = keyName.ReplaceAllStringFunc(doc, func(text string) string {
		m := keyName.FindStringSubmatch(text)
		if !slices.ContainsFunc(fileKeys.keys, func(k Key) bool { return k.Name == m[2] || k.last() == m[2] }) {
			return text
		}
		return m[1] + "`" + m[2] + "`"
	})
	return strings.ReplaceAll(pageName.ReplaceAllString(doc, "[$2](../$1)"), "(../reference/", "(")
}

func TestFileOfDefaultsEqualsTheDefaults(t *testing.T) {
	clearEnvironment(t)
	l, err := Load("defaults.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Config, Defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults.yaml says %+v, want %+v", got, want)
	}
	// A file that is used as it is has chosen the default address.
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], ": listen: ") || !strings.Contains(l.Warnings[0], "every address") {
		t.Errorf("defaults.yaml is warned of %q, want one warning: plaintext on every address", l.Warnings)
	}
	for _, k := range fileKeys.keys {
		if !l.IsSet(k.Name) {
			t.Errorf("defaults.yaml lacks %s", k.Name)
		}
	}
}

// What the schema's patterns let through must be what culvert lets through.
func TestSchemaPatternsAgreeWithTheParsers(t *testing.T) {
	for of, texts := range map[reflect.Type][]string{
		reflect.TypeFor[Size](): {
			"1", "1B", "16MiB", "16mb", "16M", "1.5GiB", "64 KiB", "1k", "-1", "", "MiB", "16 MiB ", "16MiBs", "1e3", "0x10", "16iB", "1,5M",
		},
		reflect.TypeFor[time.Duration](): {
			"30s", "1h30m", "500ms", "1.5h", ".5s", "0", "0s", "1us", "1µs", "", "30", "s", "5 m", "1d", "-1s", "1h-1m",
		},
	} {
		k := kindsByType[of]
		form := regexp.MustCompile(k.pattern)
		for _, s := range texts {
			_, err := k.parse(s)
			if got, want := form.MatchString(s), err == nil; got != want {
				t.Errorf("%v %q: pattern says %v, parser %v (%v)", of, s, got, want, err)
			}
		}
	}
}

// A key without a row for its kind is found when the package is loaded; this
// finds what would be ambiguous.
func TestKeysAreUnambiguous(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*(\.[a-z][a-z0-9]*(_[a-z0-9]+)*)*$`)
	variables, flags := map[string]string{FileVariable: "the file"}, map[string]string{"config": "the file"}
	for _, k := range fileKeys.keys {
		if !form.MatchString(k.Name) {
			t.Errorf("%s is not snake_case", k.Name)
		}
		for name, taken := range map[string]map[string]string{k.Env: variables, k.Flag: flags} {
			if other, twice := taken[name]; twice && name != "" {
				t.Errorf("%s is a name of both %s and %s", name, other, k.Name)
			}
			taken[name] = k.Name
		}
		if k.Env != "" && serviceVariable.MatchString(k.Env) {
			t.Errorf("%s can be a variable that Kubernetes makes", k.Env)
		}
	}
}
