package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLibrariesNameFilesAndTests checks that each row about a library's behaviour in
// docs/how-it-works/tests.md names a file of culvert's that exists, and a test.
// TestNamesExist checks that the test does.
func TestLibrariesNameFilesAndTests(t *testing.T) {
	rows, below := 0, ""
	for _, p := range readPages(t) {
		if p.path != "docs/how-it-works/tests.md" {
			continue
		}
		for _, l := range p.prose {
			if title, is := strings.CutPrefix(l.text, "## "); is {
				below = title
			}
			cells := strings.Split(l.text, "|")
			if below != "Library behaviour that culvert relies on" || len(cells) == 1 ||
				strings.HasPrefix(l.text, "|---") || rows == 0 && strings.Contains(l.text, "tests |") {
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

// isScript reports whether a name is that of a file with tests in TypeScript.
func isScript(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil && strings.HasSuffix(name, ".test.ts")
}
