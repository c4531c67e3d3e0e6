package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInternalsNameFilesAndTests checks that each row of docs/how-it-works/internals.md names a
// file of culvert's that exists, and a test. TestNamesExist checks that the test does.
func TestInternalsNameFilesAndTests(t *testing.T) {
	rows := 0
	for _, p := range readPages(t) {
		if p.path != "docs/how-it-works/internals.md" {
			continue
		}
		for _, l := range p.prose {
			cells := strings.Split(l.text, "|")
			if len(cells) != 6 || strings.HasPrefix(l.text, "|---") || rows == 0 && strings.Contains(l.text, "tests |") {
				continue
			}
			rows++
			file := codeSpan.FindStringSubmatch(cells[2])
			if file == nil {
				t.Errorf("%s:%d: no file", p.path, l.number)
			} else if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(file[1]))); err != nil {
				t.Errorf("%s:%d: %v", p.path, l.number, err)
			}
			if test := codeSpan.FindStringSubmatch(cells[4]); test == nil || !isTest.MatchString(test[1]) {
				t.Errorf("%s:%d: no test", p.path, l.number)
			}
		}
	}
	if rows == 0 {
		t.Error("docs/how-it-works/internals.md has no rows: what is looked for has changed")
	}
}
