package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLibrariesNameFilesAndTests checks that each row about a library's behaviour in
// docs/how-it-works/tests.md names a file of culvert's that exists, and a test.
// TestNamesExist checks that the test does. The versions are those that are required.
func TestLibrariesNameFilesAndTests(t *testing.T) {
	required := requirements(t)
	rows, below := 0, ""
	for _, p := range readPages(t) {
		if p.path != "docs/how-it-works/tests.md" {
			continue
		}
		for _, l := range p.prose {
			if title, is := strings.CutPrefix(l.text, "## "); is {
				below = title
			}
			if below == "Library behaviour that culvert relies on" {
				for _, m := range aVersion.FindAllStringSubmatch(l.text, -1) {
					if !strings.Contains(required, m[1]+" "+m[2]) {
						t.Errorf("%s:%d: %s isn't required in the version %s", p.path, l.number, m[1], m[2])
					}
				}
			}
			cells := strings.Split(l.text, "|")
			if below != "Library behaviour that culvert relies on" || len(cells) == 1 ||
				strings.HasPrefix(l.text, "|---") || strings.HasSuffix(l.text, "| tests |") {
				continue
			}
			rows++
			if len(cells) != 6 {
				t.Errorf("%s:%d: %d columns, want 4", p.path, l.number, len(cells)-2)
				continue
			}
			file := codeSpan.FindStringSubmatch(cells[2])
			if file == nil {
				t.Errorf("%s:%d: no file", p.path, l.number)
			} else if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(file[1]))); err != nil {
				t.Errorf("%s:%d: %v", p.path, l.number, err)
			}
			test := codeSpan.FindStringSubmatch(cells[4])
			if test == nil || !isTest.MatchString(test[1]) && !isScript(test[1]) {
				t.Errorf("%s:%d: no test", p.path, l.number)
			}
		}
	}
	if rows == 0 {
		t.Error("docs/how-it-works/tests.md has no rows about libraries: what is looked for has changed")
	}
}

var (
	aVersion = regexp.MustCompile("`(\\S+/\\S+) (v?[0-9]\\S*)`")
	pinned   = regexp.MustCompile(`"(@[^"]+)": "([0-9][^"]*)"`)
)

// requirements returns each module and npm package that culvert requires, with a blank and
// its version.
func requirements(t *testing.T) string {
	t.Helper()
	modules, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	packages, err := os.ReadFile(filepath.Join(root, "web", "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(modules) + pinned.ReplaceAllString(string(packages), "$1 $2")
}

// isScript reports whether a name is that of a file with tests in TypeScript.
func isScript(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil && strings.HasSuffix(name, ".test.ts")
}
