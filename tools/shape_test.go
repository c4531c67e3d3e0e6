package tools

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateNames = flag.Bool("update", false, "write testdata/names.txt anew")

// eachFile parses the Go files of the program's module, without tests, by their folders.
func eachFile(t *testing.T, visit func(folder string, file *ast.File)) {
	t.Helper()
	set, modules := token.NewFileSet(), 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "..":
			if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				modules++
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(filepath.Dir(path))[3:], file)
		return nil
	})
	if err != nil || modules == 0 {
		t.Fatalf("%d other modules, %v", modules, err)
	}
}

// TestNamesOthersCanImport: a name that another module can use is a promise. The list is
// written anew by go test -run TestNamesOthersCanImport -update.
func TestNamesOthersCanImport(t *testing.T) {
	const list = "testdata/names.txt"
	names := map[string]bool{}
	eachFile(t, func(folder string, file *ast.File) {
		if file.Name.Name == "main" || slices.Contains(strings.Split(folder, "/"), "internal") {
			return
		}
		note := func(id *ast.Ident, of string) {
			if id.IsExported() {
				names[folder+" "+of+id.Name] = true
			}
		}
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if of := receiver(decl); of == "" || ast.IsExported(strings.TrimSuffix(of, ".")) {
					note(decl.Name, of)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						note(spec.Name, "")
					case *ast.ValueSpec:
						for _, id := range spec.Names {
							note(id, "")
						}
					}
				}
			}
		}
	})
	got := strings.Join(slices.Sorted(maps.Keys(names)), "\n") + "\n"
	if *updateNames {
		if err := os.WriteFile(list, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]bool{}
	for line := range strings.Lines(string(want)) {
		recorded[strings.TrimSuffix(line, "\n")] = true
	}
	for name := range names {
		if !recorded[name] {
			t.Errorf("%s is a new name that others can import: make it internal, or write %s anew with -update", name, list)
		}
	}
	for name := range recorded {
		if !names[name] {
			t.Errorf("%s has %s, which is gone: write the list anew with -update", list, name)
		}
	}
}

// TestPackageCommentsNameFilesThatExist: a package's comment is the way into its files. It names
// those of its folder or of one below it, and others with their folder.
func TestPackageCommentsNameFilesThatExist(t *testing.T) {
	var files []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go":
			files = append(files, filepath.ToSlash(path)[2:])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	name, named := regexp.MustCompile(`[\w/]+\.go\b`), 0
	eachFile(t, func(folder string, file *ast.File) {
		for _, name := range name.FindAllString(file.Doc.Text(), -1) {
			named++
			if !slices.ContainsFunc(files, func(path string) bool {
				return strings.HasSuffix(path, "/"+name) && (strings.Contains(name, "/") || strings.HasPrefix(path, "/"+folder+"/"))
			}) {
				t.Errorf("the comment of package %s names %s, which doesn't exist", folder, name)
			}
		}
	})
	if named < 100 {
		t.Errorf("the comments name only %d files", named)
	}
}

// receiver returns "T." for a method of T, and "" for a function.
func receiver(decl *ast.FuncDecl) string {
	if decl.Recv == nil {
		return ""
	}
	of := decl.Recv.List[0].Type
	if star, is := of.(*ast.StarExpr); is {
		of = star.X
	}
	switch generic := of.(type) {
	case *ast.IndexExpr:
		of = generic.X
	case *ast.IndexListExpr:
		of = generic.X
	}
	return fmt.Sprint(of) + "."
}

// TestNoAliasOfInternalTypes: a public name for a type of an internal package would let
// others use what they can't import.
func TestNoAliasOfInternalTypes(t *testing.T) {
	eachFile(t, func(folder string, file *ast.File) {
		if file.Name.Name == "main" || slices.Contains(strings.Split(folder, "/"), "internal") {
			return
		}
		internal := map[string]bool{}
		for _, spec := range file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if !strings.Contains(path, "/internal/") {
				continue
			}
			name := path[strings.LastIndexByte(path, '/')+1:]
			if spec.Name != nil {
				name = spec.Name.Name
			}
			internal[name] = true
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, is := n.(*ast.TypeSpec)
			if !is || !spec.Assign.IsValid() || !spec.Name.IsExported() {
				return true
			}
			if of, is := spec.Type.(*ast.SelectorExpr); is && internal[fmt.Sprint(of.X)] {
				t.Errorf("%s.%s is an alias of %s.%s, which is internal", folder, spec.Name, of.X, of.Sel)
			}
			return true
		})
	})
}

// mostMethods bounds the methods of bridge.Server: a reader of one has to know all fields.
const mostMethods = 40

// TestServerHasFewMethods keeps bridge.Server from being the place for everything.
func TestServerHasFewMethods(t *testing.T) {
	methods := 0
	eachFile(t, func(folder string, file *ast.File) {
		for _, decl := range file.Decls {
			if f, is := decl.(*ast.FuncDecl); is && folder == "bridge" && receiver(f) == "Server." {
				methods++
			}
		}
	})
	if methods == 0 || methods > mostMethods {
		t.Errorf("bridge.Server has %d methods, want 1 to %d", methods, mostMethods)
	}
}
