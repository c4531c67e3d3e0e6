package inject_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

var (
	ofCulvert = regexp.MustCompile(`culvert\.dev/([a-z_.-]*[a-z])`)
	mistaken  = regexp.MustCompile("`[^`]*: unknown: did you mean[^`]*`") // in troubleshooting
)

// TestPagesNameAnnotations checks that the documents name only annotations that there
// are, and that docs/guides/kubernetes.md names all but the single limits.
func TestPagesNameAnnotations(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	known := append(inject.AnnotationNames(), "inject", "limits") // the label, and limits.…
	guide := ""
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(page) == "kubernetes.md" {
			guide = string(text)
		}
		for _, m := range ofCulvert.FindAllStringSubmatch(mistaken.ReplaceAllString(string(text), ""), -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s: there is no annotation %s", page, m[0])
			}
		}
	}
	for _, name := range inject.AnnotationNames() {
		if !strings.HasPrefix(name, "limits.") && !strings.Contains(guide, "`"+name+"`") && !strings.Contains(guide, "`culvert.dev/"+name) {
			t.Errorf("docs/guides/kubernetes.md doesn't name the annotation %s", name)
		}
	}
}
