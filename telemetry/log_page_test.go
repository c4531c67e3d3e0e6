package telemetry_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLogAttributesAreDocumented holds the tables of attributes in docs/reference/log.md
// to the attributes that the program's packages log, and the other way round.
func TestLogAttributesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/reference/log.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := documentedAttributes(string(page))
	p := newLogParser()
	// Not "..": Go keeps a test's result until a file changes that the test has looked at, and
	// that folder changes with each command of git. cmd/culvert imports all of these.
	for _, folder := range []string{"admin", "auth", "bridge", "client", "cmd", "codec", "config", "internal", "telemetry", "tls", "zone"} {
		err := filepath.WalkDir("../"+folder, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{"bridgetest", "testdata", "wstest"}, d.Name()):
				return filepath.SkipDir
			case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			return p.parse(path, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	logged := p.attributes()
	if len(logged) < 50 {
		t.Fatalf("found only %d attributes", len(logged))
	}
	for key, where := range logged {
		if !documented[key] {
			t.Errorf("%s: no table of docs/reference/log.md explains the attribute %s", where, key)
		}
	}
	for key := range documented {
		if _, is := logged[key]; !is {
			t.Errorf("docs/reference/log.md explains %s, which nothing logs", key)
		}
	}
}

// documentedAttributes returns what stands in the first column of the tables of
// attributes on a page.
func documentedAttributes(page string) map[string]bool {
	found, inTable := map[string]bool{}, false
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) < 3:
			inTable = false
		case strings.TrimSpace(cells[1]) == "attribute":
			inTable = true
		case inTable:
			for i, part := range strings.Split(cells[1], "`") {
				if i%2 == 1 {
					found[part] = true
				}
			}
		}
	}
	return found
}

// TestLogAttributesAreFound in each form in which Go code can give a key to slog.
func TestLogAttributesAreFound(t *testing.T) {
	p := newLogParser()
	for path, text := range map[string]string{
		"names/names.go": `package names
const Foreign = "in_a_foreign_constant"
`,
		"a/constants.go": `package a
const sibling = "in_a_constant_of_another_file"
`,
		"a/a.go": `package a

import "log/slog"

const inPackage = "in_a_constant"

var variable = "in_a_variable"

func _(ctx context.Context, l *slog.Logger, attr slog.Attr, with []any) {
	const local = "in_a_local_constant"
	l, assigned := l.With("with", 1), "assigned"
	l.Info("m", slog.String("string", "v"), slog.Any("any", 1), slog.Group("group", "in_group", 1, slog.Int("attr_in_group", 2)))
	l.Info("m", "pair", "v", attr, "after_an_attr", "v", slog.Int("attr", 1), "after_a_call", "v")
	l.Debug("m", inPackage, 1, local, 2, sibling, 3, names.Foreign, 4, variable, 5, assigned, 6, "paren"+"thesized", 7)
	l.WarnContext(ctx, "m", "context", 1)
	l.Log(ctx, slog.LevelInfo, "m", "log", 1)
	l.LogAttrs(ctx, slog.LevelInfo, "m", slog.Attr{Key: "literal", Value: v}, slog.Attr{"unkeyed", v})
	slog.Default().WithGroup("with_group").ErrorContext(ctx, "m", ("parentheses"), 1)
	slog.Error("m", "package_function", 1)
	slog.With("package_with", 1)
	attrs := []slog.Attr{{Key: "elided", Value: v}, {"elided_unkeyed", v}}
	facts := []any{"in_a_list", 1, slog.Int("attr_in_a_list", 2), "later_in_a_list", 2}
	facts = append(facts, "appended", 1)
	with = append(with, "appended_to_a_parameter", 1)
	l.Info("m", facts...)
	r := slog.NewRecord(now, slog.LevelInfo, "m", 0)
	r.Add("added", 1)
	r.AddAttrs(slog.GroupAttrs("group_attrs", slog.Bool("in_group_attrs", true)))
	r.AddAttrs(attrs...)
	attr.Key = "set_later"
	made := slog.Int("made", 1)
	made.Key = "made_and_set_later"
	var named slog.Attr
	named.Key = "set_in_a_variable"
	var other struct{ Key string }
	other.Key = "no_attribute"
}
`,
	} {
		if err := p.parse(path, text); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"in_a_foreign_constant", "in_a_constant_of_another_file", "in_a_constant", "in_a_variable", "in_a_local_constant", "with", "assigned",
		"string", "any", "group", "in_group", "attr_in_group", "pair", "after_an_attr", "attr", "after_a_call", "parenthesized", "context", "log",
		"literal", "unkeyed", "with_group", "parentheses", "package_function", "package_with", "elided", "elided_unkeyed", "in_a_list",
		"attr_in_a_list", "later_in_a_list", "appended", "appended_to_a_parameter", "added", "group_attrs", "in_group_attrs", "set_later", "made", "made_and_set_later", "set_in_a_variable",
	}
	got := slices.Sorted(maps.Keys(p.attributes()))
	if slices.Sort(want); !slices.Equal(got, want) {
		for _, key := range want {
			if !slices.Contains(got, key) {
				t.Errorf("%s isn't found", key)
			}
		}
		t.Errorf("found %q", got)
	}
}

// TestAttributesOutsideTables don't count as documented.
func TestAttributesOutsideTables(t *testing.T) {
	const page = "`prose` is a key.\n\n| attribute | meaning |\n|---|---|\n| `a`, `b` | like `c` |\n\n| `key` | tries out |\n|---|---|\n| `d` | `e` |\n"
	if got := slices.Sorted(maps.Keys(documentedAttributes(page))); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("documented are %q, want a and b", got)
	}
}

// A logParser finds the keys that files give to slog. It knows no types, so it takes the
// names of slog's functions and methods for slog's.
type logParser struct {
	set     *token.FileSet
	files   []*ast.File
	paths   []string
	strings map[string]map[string][]string // by folder and name: the texts of constants and variables
}

func newLogParser() *logParser {
	return &logParser{set: token.NewFileSet(), strings: map[string]map[string][]string{}}
}

// parse reads a file, from text unless that is nil.
func (p *logParser) parse(path string, text any) error {
	file, err := parser.ParseFile(p.set, path, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	p.files, p.paths = append(p.files, file), append(p.paths, path)
	folder := filepath.Base(filepath.Dir(path))
	if p.strings[folder] == nil {
		p.strings[folder] = map[string][]string{}
	}
	note := func(name, value ast.Expr) {
		id, is := name.(*ast.Ident)
		if text, isText := textOf(value); is && isText {
			p.strings[folder][id.Name] = append(p.strings[folder][id.Name], text)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i := range min(len(n.Names), len(n.Values)) {
				note(n.Names[i], n.Values[i])
			}
		case *ast.AssignStmt:
			for i := range min(len(n.Lhs), len(n.Rhs)) {
				note(n.Lhs[i], n.Rhs[i])
			}
		}
		return true
	})
	return nil
}

// textOf returns the text of an expression of literals.
func textOf(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.ParenExpr:
		return textOf(e.X)
	case *ast.BinaryExpr:
		x, is := textOf(e.X)
		y, also := textOf(e.Y)
		return x + y, is && also && e.Op == token.ADD
	}
	return "", false
}

// attributes returns the keys in all files, each with a place.
func (p *logParser) attributes() map[string]token.Position {
	found := map[string]token.Position{}
	for i, file := range p.files {
		f := &logFile{logParser: p, folder: filepath.Base(filepath.Dir(p.paths[i])), found: found, records: map[string]bool{}, attrs: map[string]bool{}, lists: map[string]bool{}}
		ast.Inspect(file, f.declared)
		ast.Inspect(file, f.visit)
	}
	return found
}

// A logFile is a file whose keys are looked for.
type logFile struct {
	*logParser
	folder  string
	found   map[string]token.Position
	records map[string]bool // names of slog.Records
	attrs   map[string]bool // names of slog.Attrs
	lists   map[string]bool // names of []any
}

// firstPair is the number of arguments before the pairs, of the functions and methods that
// take pairs.
var firstPair = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3, "With": 0,
}

// makers are the functions of slog whose first argument is a key.
var makers = []string{"Any", "Bool", "Duration", "Float64", "Group", "GroupAttrs", "Int", "Int64", "String", "Time", "Uint64"}

// declared notes the names of records, attributes and lists.
func (f *logFile) declared(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i := range min(len(n.Lhs), len(n.Rhs)) {
			if id, is := n.Lhs[i].(*ast.Ident); is {
				call, calls := n.Rhs[i].(*ast.CallExpr)
				f.records[id.Name] = f.records[id.Name] || calls && isOfSlog(call.Fun, "NewRecord")
				list, literal := n.Rhs[i].(*ast.CompositeLit)
				f.lists[id.Name] = f.lists[id.Name] || literal && isListOfAny(list.Type)
				f.attrs[id.Name] = f.attrs[id.Name] || literal && isOfSlog(list.Type, "Attr") || calls && isOneOfSlog(call.Fun, makers)
			}
		}
	case *ast.Field:
		for _, id := range n.Names {
			f.lists[id.Name] = f.lists[id.Name] || isListOfAny(n.Type)
			f.records[id.Name] = f.records[id.Name] || isOfSlog(n.Type, "Record")
			f.attrs[id.Name] = f.attrs[id.Name] || isOfSlog(n.Type, "Attr")
		}
	case *ast.ValueSpec:
		for _, id := range n.Names {
			f.lists[id.Name] = f.lists[id.Name] || isListOfAny(n.Type)
			f.attrs[id.Name] = f.attrs[id.Name] || isOfSlog(n.Type, "Attr")
		}
	}
	return true
}

func (f *logFile) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		f.call(n)
	case *ast.CompositeLit:
		list, is := n.Type.(*ast.ArrayType)
		switch {
		case isOfSlog(n.Type, "Attr"):
			f.attr(n)
		case is && isOfSlog(list.Elt, "Attr"):
			for _, e := range n.Elts {
				if elided, is := e.(*ast.CompositeLit); is && elided.Type == nil {
					f.attr(elided)
				}
			}
		case isListOfAny(n.Type):
			f.pairs(n.Elts)
		}
	case *ast.AssignStmt: // attr.Key = "…"
		for i := range min(len(n.Lhs), len(n.Rhs)) {
			s, is := n.Lhs[i].(*ast.SelectorExpr)
			if !is || s.Sel.Name != "Key" {
				continue
			}
			if of, is := s.X.(*ast.Ident); is && f.attrs[of.Name] {
				f.key(n.Rhs[i])
			}
		}
	}
	return true
}

func (f *logFile) call(n *ast.CallExpr) {
	if id, is := n.Fun.(*ast.Ident); is && id.Name == "append" {
		if to, is := n.Args[0].(*ast.Ident); is && f.lists[to.Name] {
			f.pairs(n.Args[1:])
		}
		return
	}
	function, is := n.Fun.(*ast.SelectorExpr)
	if !is || len(n.Args) == 0 {
		return
	}
	name := function.Sel.Name
	of, _ := function.X.(*ast.Ident)
	first, takesPairs := firstPair[name]
	switch {
	case of != nil && of.Name == "slog" && slices.Contains(makers, name):
		f.key(n.Args[0])
		if name == "Group" {
			f.pairs(n.Args[1:])
		}
	case of != nil && slices.Contains([]string{"status", "errors", "math"}, of.Name): // status.Error, math.Log
	case name == "WithGroup":
		f.key(n.Args[0])
	case takesPairs && len(n.Args) > first:
		f.pairs(n.Args[first:])
	case name == "Add" && of != nil && f.records[of.Name]:
		f.pairs(n.Args)
	}
}

// attr takes the key of a literal slog.Attr.
func (f *logFile) attr(n *ast.CompositeLit) {
	for i, e := range n.Elts {
		pair, keyed := e.(*ast.KeyValueExpr)
		switch {
		case !keyed && i == 0:
			f.key(e)
		case keyed:
			if id, is := pair.Key.(*ast.Ident); is && id.Name == "Key" {
				f.key(pair.Value)
			}
		}
	}
}

// pairs takes the keys of pairs, between which attributes may stand.
func (f *logFile) pairs(args []ast.Expr) {
	for i := 0; i < len(args); i++ {
		if f.key(args[i]) {
			i++
		}
	}
}

// key takes a key. It reports whether e can be one.
func (f *logFile) key(e ast.Expr) bool {
	texts := f.texts(e)
	for _, text := range texts {
		if text != "" && !strings.ContainsAny(text, " :") { // else another variable of this name
			f.found[text] = f.set.Position(e.Pos())
		}
	}
	return len(texts) > 0
}

// texts returns what an expression may say.
func (f *logFile) texts(e ast.Expr) []string {
	if text, is := textOf(e); is {
		return []string{text}
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return f.texts(e.X)
	case *ast.Ident:
		return f.strings[f.folder][e.Name]
	case *ast.SelectorExpr:
		if of, is := e.X.(*ast.Ident); is {
			return f.strings[of.Name][e.Sel.Name]
		}
	}
	return nil
}

func isOfSlog(e ast.Expr, name string) bool { return isOneOfSlog(e, []string{name}) }

func isOneOfSlog(e ast.Expr, names []string) bool {
	s, is := e.(*ast.SelectorExpr)
	if !is {
		return false
	}
	of, _ := s.X.(*ast.Ident)
	return of != nil && of.Name == "slog" && slices.Contains(names, s.Sel.Name)
}

// isListOfAny reports whether a type is []any or …any.
func isListOfAny(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.ArrayType:
		id, is := e.Elt.(*ast.Ident)
		return is && e.Len == nil && id.Name == "any"
	case *ast.Ellipsis:
		id, is := e.Elt.(*ast.Ident)
		return is && id.Name == "any"
	}
	return false
}
