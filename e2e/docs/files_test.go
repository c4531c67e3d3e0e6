package docs

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// isSource matches a Go file or a package of culvert's, also as a pattern.
var isSource = regexp.MustCompile(`^([\w*/-]+\.go|(bridge|cmd|codec|config|demo|e2e|examples|telemetry|tools)/[\w*/-]+)$`)

// TestFilesExist checks that each Go file and each package that a page names is
// there.
func TestFilesExist(t *testing.T) {
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "node_modules" {
			return fs.SkipDir
		}
		names[filepath.Base(path)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	inArchitecture := 0
	for _, p := range readPages(t) {
		for _, l := range p.prose {
			for _, m := range codeSpan.FindAllStringSubmatch(l.text, -1) {
				name := strings.Replace(m[1], "NAME", "*", 1) // of a file that is to be made
				if !isSource.MatchString(name) {
					continue
				}
				if p.path == "docs/how-it-works/architecture.md" {
					inArchitecture++
				}
				if !strings.Contains(name, "/") && !strings.Contains(name, "*") {
					if !names[name] {
						t.Errorf("%s:%d: %s: no such file", p.path, l.number, m[1])
					}
					continue
				}
				if found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(name))); err != nil || len(found) == 0 {
					t.Errorf("%s:%d: %s: no such file (%v)", p.path, l.number, m[1], err)
				}
			}
		}
	}
	if inArchitecture < 30 {
		t.Errorf("docs/how-it-works/architecture.md names %d files and packages: what is looked for has changed", inArchitecture)
	}
}
