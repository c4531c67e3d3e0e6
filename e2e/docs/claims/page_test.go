package claims

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/how-it-works/appendix/claims.md from the table")

const (
	root = "../../.."
	page = root + "/docs/how-it-works/appendix/claims.md"
)

// A section has claims about one kind of attacker, or about one part of culvert.
type section struct {
	title  string
	claims []claim
}

// A claim is a sentence that its tests show to be true. A test is named as its
// function is, with its package's folder before it where several packages have
// a test of that name ("e2e.TestFloods"). A scenario of the conformance suite is
// "TestConformance/" and its name.
type claim struct {
	text  string
	tests []string
}

// TestClaimsPage holds docs/how-it-works/appendix/claims.md to the table, and the
// table to tests that exist.
func TestClaimsPage(t *testing.T) {
	want, errs := claimsPage(readTests(t))
	for _, err := range errs {
		t.Error(err)
	}
	if *update && len(errs) == 0 {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the table in e2e/docs/claims: run `go -C e2e generate ./docs/claims`", page)
	}
}

// TestMissingTestsAreErrors checks that a claim needs tests that exist, each in
// one place.
func TestMissingTestsAreErrors(t *testing.T) {
	at := index{"TestHere": {"tls/here_test.go"}, "TestTwice": {"e2e/twice_test.go", "bridge/internal/h2/twice_test.go"}}
	for name, want := range map[string]string{
		"TestHere":               "",
		"e2e.TestTwice":          "",
		"TestTwice":              "several packages",
		"tls.TestTwice":          "no such test",
		"TestNowhere":            "no such test",
		"TestConformance/either": "no such test",
	} {
		_, err := at.find(name)
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	real := readTests(t)
	if _, err := real.find("TestConformance/hop-by-hop request headers"); err != nil {
		t.Error(err)
	}
	if file, err := real.find("TestConformance/origin"); err == nil { // a header in a scenario
		t.Errorf("%s has a scenario of the name of a header", file)
	}
}

// An index has the files that have a test, by the test's name.
type index map[string][]string

// readTests finds the tests and fuzz targets of all modules, and the scenarios
// that every transport passes.
func readTests(t *testing.T) index {
	t.Helper()
	at := index{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
	scenarios := regexp.MustCompile(`(?ms)^var \w+ = \[\]scenario\{$.*?^\}$`)
	scenario := regexp.MustCompile(`(?m)^\t\{"([^"]+)", `)
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case filepath.Ext(file) != ".go":
			return nil
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range function.FindAllStringSubmatch(string(text), -1) {
				at[m[1]] = append(at[m[1]], name)
			}
		}
		if path.Dir(name) == "bridge/bridgetest" {
			for _, m := range scenario.FindAllStringSubmatch(strings.Join(scenarios.FindAllString(string(text), -1), "\n"), -1) {
				at["TestConformance/"+m[1]] = append(at["TestConformance/"+m[1]], name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// find returns the file that has a test.
func (at index) find(test string) (file string, err error) {
	folder, name := "", test
	if i := strings.Index(test, ".Test"); i >= 0 {
		folder, name = test[:i], test[i+1:]
	}
	files := slices.DeleteFunc(slices.Clone(at[name]), func(f string) bool { return folder != "" && path.Dir(f) != folder })
	switch len(files) {
	case 0:
		return "", fmt.Errorf("%s: no such test", test)
	case 1:
		return files[0], nil
	}
	return "", fmt.Errorf("%s: several packages have it (%s): write the folder before it", test, strings.Join(files, ", "))
}

// claimsPage writes the page, with a link to the file of each test.
func claimsPage(at index) (text []byte, errs []error) {
	var b bytes.Buffer
	b.WriteString("# Security claims and their tests\n\n" +
		"For reviewers who want the evidence behind the [security model](../security.md). Generated from `e2e/docs/claims/table_test.go`. A name\n" +
		"after TestConformance is a scenario that runs over every transport that can carry it. A tunnel is an `h2ts` WebSocket.\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		for _, c := range s.claims {
			var links []string
			for _, test := range c.tests {
				file, err := at.find(test)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				name := test[strings.Index(test, ".Test")+1:]
				links = append(links, fmt.Sprintf("[`%s`](../../../%s)", name, file))
			}
			if len(links) == 0 {
				errs = append(errs, fmt.Errorf("no test shows %q", c.text))
			}
			fmt.Fprintf(&b, "- %s %s\n", c.text, strings.Join(links, ", "))
		}
	}
	b.WriteString("\nNext: the [security model](../security.md), [attacks and bounds](attacks.md), [hardening](../../guides/hardening.md).\n")
	return b.Bytes(), errs
}
