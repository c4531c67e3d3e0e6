package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMigrationPagesAreComplete holds the tables of the pages that lead away from
// improbable-eng/grpc-web to its own source: each flag and each option, and none
// that isn't there.
func TestMigrationPagesAreComplete(t *testing.T) {
	dir, err := output(t, root, "go", "list", "-C", "e2e", "-m", "-f", "{{.Dir}}", "github.com/improbable-eng/grpc-web")
	if err != nil {
		t.Fatalf("%v\n%s", err, dir)
	}
	source := filepath.Join(strings.TrimSpace(dir), "go")
	flags := found(t, filepath.Join(source, "grpcwebproxy", "*.go"), regexp.MustCompile(`pflag\.\w+\(\s*"(\w+)"`), "--")
	wantFirstColumn(t, "docs/guides/from-grpcwebproxy.md", flags)
	options := found(t, filepath.Join(source, "grpcweb", "options.go"), regexp.MustCompile(`(?m)^func (With\w+)\(`), "")
	wantFirstColumn(t, "docs/guides/embedding.md", options)
}

// found lists what the pattern's group matches in files.
func found(t *testing.T, files string, pattern *regexp.Regexp, prefix string) (all []string) {
	t.Helper()
	paths, err := filepath.Glob(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			all = append(all, prefix+m[1])
		}
	}
	if len(all) == 0 {
		t.Fatalf("nothing found in %s", files)
	}
	return all
}

// wantFirstColumn wants exactly the names in the first column of a page's tables.
func wantFirstColumn(t *testing.T, path string, want []string) {
	t.Helper()
	var got []string
	for _, p := range readPages(t) {
		for _, l := range p.prose {
			if p.path != path || !strings.HasPrefix(l.text, "|") {
				continue
			}
			for _, m := range codeSpan.FindAllStringSubmatch(strings.Split(l.text, "|")[1], -1) {
				got = append(got, m[1])
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has\n%q, want\n%q", path, got, want)
	}
}
