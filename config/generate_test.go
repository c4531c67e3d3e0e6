package config

import (
	"bytes"
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
	key      *Key // nil for a section
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
			fmt.Fprintf(b, "%s# A list, each entry with what it needs of these:\n%s# %s:\n", indent, indent, e.name)
			writeEntryExample(b, e.children, indent+"#   - ", indent+"#     ")
		}
	}
}

// writeEntryExample shows, in a comment, what an entry of a list of sections
// can hold. It shows examples, not defaults: who uses one wants to change it.
func writeEntryExample(b *bytes.Buffer, entries []entry, first, indent string) {
	for i, e := range entries {
		if i > 0 {
			first = indent
			fmt.Fprintln(b, strings.TrimRight(indent, " "))
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
	s["description"] = "Configuration of culvert. Generated from its struct; docs/reference/configuration.md is the same for people."
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

For those who run culvert. Generated from the configuration's struct by
` + "`make generate`" + `; [proxy.yaml](../../proxy.yaml) is a file to start from,
` + "`culvert config defaults`" + ` prints every key as a file, and
[proxy.schema.json](../proxy.schema.json) is for editors.

Nothing has to be configured but the backend: ` + "`culvert serve --backend localhost:9000`" + `.

## Where a value comes from

A flag wins over the environment, the environment over the file, the file over
the default.

- **File**: YAML, named by ` + "`--config`" + ` or ` + "`CULVERT_CONFIG`" + `. A key that culvert
  doesn't know, or that stands twice, is an error with its line.
- **Environment**: ` + "`CULVERT_`" + ` and the key in upper case, with ` + "`_`" + ` for each dot. An
  empty variable counts as not set; one that means nothing is an error, except
  those that Kubernetes makes for a service named culvert. The values of a list
  stand with blanks between them; lists of sections can't be set here.
- **Flags**: a list's flag is repeated for each entry, and replaces the file's
  list.

` + "`culvert validate --config proxy.yaml`" + ` checks all of it without serving.

In the file's values, and nowhere else:

| written | means |
|---|---|
| ` + "`${NAME}`" + ` | the environment's variable; an error if it is not set |
| ` + "`${NAME:-default}`" + ` | the same, or the default if it is not set or empty |
| ` + "`$$`" + ` | a dollar sign |
| ` + "`file:/path`" + ` | the content of that file, without its last line's end; a relative path starts at the directory of the configuration |

What a reference brings in is never read as YAML or as another reference.

## How values are written

| kind | form |
|---|---|
| duration | a number with ` + "`ms`, `s`, `m` or `h`: `500ms`, `30s`, `1h30m`" + ` |
| size | a number with ` + "`B`, `KiB`, `MiB` or `GiB`: `64KiB`, `16MiB`; `k`, `kB`, `M`, `MB` are the same units" + ` |
| address | ` + "`host:port` or `:port`" + `; an IPv6 address in brackets |
| list | ` + "`[a, b]`" + `, or a line with a dash for each |
| list of sections | a dash for each, its keys indented below; in the file only |

## Keys
`

const referenceTail = `
## Next

- what an error means: [errors.md](errors.md)
- which metadata crosses: [metadata.md](metadata.md)
- what happens to a call: [calls.md](../how-it-works/calls.md)
`

func referenceFile(root entry, c *Config) []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	writeReference(&b, root.children, c, "", "###")
	b.WriteString(referenceTail)
	return b.Bytes()
}

// writeReference describes the keys of the struct that of points to.
func writeReference(b *bytes.Buffer, entries []entry, of any, section, heading string) {
	for _, e := range entries {
		name := join(section, e.name)
		fmt.Fprintf(b, "\n%s `%s`\n\n%s\n", heading, name, asMarkdown(e.doc))
		if e.key == nil {
			writeReference(b, e.children, of, name, "####")
			continue
		}
		kind := e.key.kind.name
		if e.key.words != nil {
			kind = "one of `" + strings.Join(e.key.words, "`, `") + "`"
		}
		switch {
		case e.key.List:
			kind = "list of " + kind
		case e.key.short != "":
			kind += ", or list of sections"
		case e.key.entries != nil:
			kind = "list of sections"
		}
		switch {
		case e.key.needed:
			fmt.Fprintf(b, "\n%s · needed", kind)
		case e.key.like != "":
			fmt.Fprintf(b, "\n%s · default: that of `%s`", kind, e.key.like)
		case e.key.unset != "":
			fmt.Fprintf(b, "\n%s · default `%s`", kind, e.key.unset)
		default:
			fmt.Fprintf(b, "\n%s · default `%s`", kind, valueOf(e.key, of))
		}
		if names := alsoSetBy(e.key, "`", "`"); names != "" {
			fmt.Fprintf(b, " · %s", names)
		}
		b.WriteByte('\n')
		if e.key.entries != nil {
			writeReference(b, e.children, reflect.New(e.of.Elem()).Interface(), name+"[]", "####")
		}
	}
}

var quotation = regexp.MustCompile(`"([^"\n]*)"`)

// asMarkdown keeps what is quoted from being read as markup.
func asMarkdown(doc string) string {
	return quotation.ReplaceAllStringFunc(doc, func(q string) string {
		if q == `""` {
			return "`\"\"`"
		}
		return "`" + strings.Trim(q, `"`) + "`"
	})
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
