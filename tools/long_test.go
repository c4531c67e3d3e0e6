package tools

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// goTest finds a run of a module's packages that takes no kept results: "make -n" prints it.
	goTest = regexp.MustCompile(`(?m)^(cd ([\w/]+) && )?.* -count=1 .*\./(\.\.\.|docs|bridge)$`)

	selection = regexp.MustCompile(`-(run|skip) '([^']*)'`)
	testName  = regexp.MustCompile(`Test\w+`)
	testFunc  = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
)

// TestEachTestIsInOneOfTheTargets checks that "make test-long" and "make test-docs" run
// exactly those tests that "make test" skips, in both modules, that they exist, and that CI
// runs each target.
func TestEachTestIsInOneOfTheTargets(t *testing.T) {
	if text := dryRun(t, "test"); !strings.Contains(text, "tools/lint.sh proxy;") || strings.Contains(text, "nice ") {
		t.Errorf("make test doesn't lint, or at a low priority:\n%s", text)
	}
	skipped, run, blocks := selections(t, "unit", "e2e", "tools"), selections(t, "test-long"), selections(t, "test-docs")
	var names []string
	for _, module := range []string{"", "e2e"} {
		skip, long := skipped[module], run[module]
		if len(skip) != 3 || len(long) != 3 || skip[1] != "skip" || long[1] != "run" {
			t.Fatalf("module %q: make test selects by %q, make test-long by %q: want -skip and -run", module, skip, long)
		}
		want := long[2]
		if module == "e2e" {
			if len(blocks[module]) != 3 || blocks[module][1] != "run" {
				t.Fatalf("make test-docs selects by %q, want -run", blocks[module])
			}
			want += "|" + blocks[module][2]
		}
		if module == "" {
			by := selections(t, "conformance")[module]
			if len(by) != 3 || by[1] != "run" {
				t.Fatalf("make conformance selects by %q, want -run", by)
			}
			want += "|" + by[2]
		}
		if skip[2] != want {
			t.Errorf("module %q: make test skips %q, the others run %q: want the same", module, skip[2], want)
		}
		names = append(names, testName.FindAllString(want, -1)...)
	}
	for target, modules := range map[string][]string{"test": {"examples", "tools"}, "test-long": {"auth/internal/oidctest", "auth/internal/opatest", "auth/internal/ratelimittest", "e2e/identity", "e2e/traced"}, "test-kube": {"kubernetes", "tools/helm", "tools/images"}} {
		runs := skipped
		if target != "test" {
			runs = selections(t, target)
		}
		for _, module := range modules {
			if by, selected := runs[module]; !selected || by != nil {
				t.Errorf("make %s selects tests of the module %s by %q, want all to run", target, module, by)
			}
		}
	}
	for target, set := range map[string]string{"test-kube": "kubernetes", "vet": "peers"} {
		if !strings.Contains(dryRun(t, target), "tools/lint.sh "+set+"\n") {
			t.Errorf("make %s doesn't lint the modules of the set %s", target, set)
		}
	}
	ci, err := os.ReadFile("../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"test", "test-kube", "test-docs", "vet", "unit-long", "web-long", "test-apiserver", "e2e-long"} {
		if !regexp.MustCompile(`(?m)^(make|beside) (\S+ )*` + target + `\s`).Match(ci) {
			t.Errorf(".ci/run doesn't make %s", target)
		}
	}

	there := testFunctions(t)
	for _, name := range names {
		if !slices.Contains(there, name) {
			t.Errorf("LONG_NAMES in the Makefile has %s: no such test", name)
		}
	}
}

// TestEveryStepRuns runs "make test" with other programs for its steps: each step runs
// whichever others fail, lint's findings are shown, and the end names what failed. Without the
// packages none runs.
func TestEveryStepRuns(t *testing.T) {
	const steps = `#!/bin/sh
echo "step $1 runs"
case " $FAILING " in *" $1 "*) exit 3;; esac
`
	const lint = `#!/bin/sh
echo "this is a finding"
case " $FAILING " in *" lint "*) exit 1;; esac
`
	dir := t.TempDir()
	for name, text := range map[string]string{"steps": steps, "lint": lint} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, failing := range []string{"", "compile", "unit", "e2e", "conformance", "web", "lint", "tools", "compile web e2e lint tools unit conformance", "deps"} {
		cmd := exec.CommandContext(t.Context(), "make", "test", "steps="+filepath.Join(dir, "steps"), "linters="+filepath.Join(dir, "lint"))
		cmd.Dir, cmd.Env = "..", append(cleanEnvironment(), "FAILING="+failing)
		text, err := cmd.CombinedOutput()
		if (err == nil) != (failing == "") {
			t.Errorf("with %q failing make ends with %v", failing, err)
		}
		parts := []string{"step deps runs\n", "step compile runs\n", "step unit runs\n", "step e2e runs\n", "step conformance runs\n", "step web runs\n", "==> lint\nthis is a finding\n", "step tools runs\n"}
		switch failing {
		case "":
			parts = append(parts, "make test: all passed")
		case "deps": // what the others need
			if parts = parts[:1]; strings.Contains(string(text), "step unit runs") {
				t.Errorf("without the packages, tests run:\n%s", text)
			}
		default:
			parts = append(parts, "make test: failed: "+failing+"\n")
		}
		for _, part := range parts {
			if !strings.Contains(string(text), part) {
				t.Errorf("with %q failing, the output lacks %q:\n%s", failing, part, text)
			}
		}
	}
}

// cleanEnvironment is one without the flags and variables of a make that runs this test.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "MAKE") || slices.Contains([]string{"MFLAGS", "RACE", "TESTED", "COUNT", "CI"}, name)
	})
}

// dryRun returns what "make -n" prints in CI.
func dryRun(t *testing.T, targets ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", append([]string{"-n"}, targets...)...)
	cmd.Dir = ".."
	cmd.Env = append(cleanEnvironment(), "CI=true")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make -n %s: %v\n%s", targets, err, text)
	}
	return string(text)
}

// selections returns by module how targets select tests: the match, the flag
// and its value, or nil if all tests run.
func selections(t *testing.T, targets ...string) map[string][]string {
	t.Helper()
	text := dryRun(t, targets...)
	by := map[string][]string{}
	for _, m := range goTest.FindAllStringSubmatch(text, -1) {
		if _, twice := by[m[2]]; twice {
			t.Errorf("make %s runs the tests of module %q twice", targets, m[2])
		}
		by[m[2]] = selection.FindStringSubmatch(m[0])
	}
	return by
}

// testFunctions returns the names of the tests in the repository.
func testFunctions(t *testing.T) []string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard", "*_test.go")
	list.Dir = ".."
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range strings.Fields(string(files)) {
		text, err := os.ReadFile("../" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}
