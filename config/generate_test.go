package config

import (
	"bytes"
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
)

// The test writes the files and compares them with the struct, so the generator
// isn't in the shipped program. `go generate ./config` runs it with -update.
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

// readStruct returns the keys, which it knows by reflection, with their
// comments, which only the source has.
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
			embedded := entriesOf(t, f.Type, in, section, docs)
			if same := f.Tag.Get("same"); same != "" {
				for i := range embedded {
					embedded[i].as = same
				}
			}
			entries = append(entries, embedded...)
			continue
		}
		e := entry{name: f.Tag.Get("key"), doc: docs[of.Name()+"."+f.Name], of: f.Type}
		if e.doc == "" {
			t.Errorf("%s.%s has no comment: it is the only documentation of its key", of.Name(), f.Name)
		}
		switch k := in.key(join(section, e.name)); {
		case k.entries != nil:
			e.key = &k
			e.children = entriesOf(t, f.Type.Elem(), k.entries, "", docs)
		case k.Name != "":
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

// valueOf returns a key's value in its struct in the form of a file.
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

// flow returns an entry of a list of sections in one line.
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

const defaultsHead = `# Every key of culvert, with its default. All keys are commented out: a "#"
# without a blank. To change a key, remove the "#" before the key and before
# each section above it.
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
			fmt.Fprintf(b, "%s#%s:\n", indent, e.name)
			writeDefaults(b, e.children, c, indent+"  ")
			continue
		}
		if names := alsoSetBy(e.key, "", ""); names != "" {
			fmt.Fprintf(b, "%s# %s\n", indent, names)
		}
		fmt.Fprintf(b, "%s#%s: %s\n", indent, e.name, valueOf(e.key, c))
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
	case e.key != nil && e.key.needed: // an entry has to have it
		return ""
	case e.as != "":
		return join(e.as, e.name)
	case e.key == nil:
		return ""
	}
	return e.key.like
}

// newEntry returns a pointer to an entry of a list of sections that sets nothing.
func newEntry(e entry) any {
	of := reflect.New(e.of.Elem())
	e.key.entries.setDefaults(of.Elem())
	return of.Interface()
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

// commentedKey matches a key that is commented out. Prose has a blank after
// its "#".
var commentedKey = regexp.MustCompile(`(?m)^((?:- |  )*)#(\w+:)`)

func uncommented(file string) string { return commentedKey.ReplaceAllString(file, "$1$2") }

func TestFileOfDefaultsSetsNothing(t *testing.T) {
	clearEnvironment(t)
	l, err := Load(Options{}, "defaults.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Config, Defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults.yaml says %+v, want %+v", got, want)
	}
	if len(withoutDefault(l.Warnings)) > 0 || len(l.origins) > 0 {
		t.Errorf("defaults.yaml has the warnings %q and sets %v, want neither", l.Warnings, l.origins)
	}
}

func TestFileOfDefaultsUncommentedEqualsTheDefaults(t *testing.T) {
	clearEnvironment(t)
	path := filepath.Join(t.TempDir(), "defaults.yaml")
	if err := os.WriteFile(path, []byte(uncommented(DefaultsFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Options{}, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Config, Defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults.yaml says %+v, want %+v", got, want)
	}
	// This file sets the default address, so culvert warns of it.
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], ": listen: ") || !strings.Contains(l.Warnings[0], "every address") {
		t.Errorf("defaults.yaml is warned of %q, want one warning: plaintext on every address", l.Warnings)
	}
	for _, k := range fileKeys.keys {
		if !l.IsSet(k.Name) {
			t.Errorf("defaults.yaml lacks %s", k.Name)
		}
	}
}

// TestKeysAreUnambiguous finds names with two meanings. The package itself panics
// for a key without a kind.
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
