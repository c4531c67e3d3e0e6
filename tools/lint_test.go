package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"
)

const lintConfig = "../.golangci.yml"

// A finding is what the linter said, or what a planted file wants it to say.
type finding struct {
	file, linter, text string
}

// answers reports whether f is what want asks for.
func (f finding) answers(want finding) bool {
	return f.file == want.file && f.linter == want.linter && strings.Contains(f.text, want.text)
}

func (f finding) String() string { return fmt.Sprintf("%s: %s: %s", f.file, f.linter, f.text) }

// TestEachLintRuleCatchesABreach runs the linter, as configured, over a tree
// with a planted breach of each rule. Every breach must be found, by the rule
// it was planted for, and nothing else may be.
func TestEachLintRuleCatchesABreach(t *testing.T) {
	dir, wanted := plant(t, "testdata/lint.txtar")

	found := runLinter(t, dir, ".")
	for _, f := range runLinter(t, dir, "e2e") {
		f.file = "e2e/" + strings.TrimPrefix(f.file, "e2e/")
		found = append(found, f)
	}

	for _, want := range wanted {
		at := slices.IndexFunc(found, func(f finding) bool { return f.answers(want) })
		if at < 0 {
			t.Errorf("not found: %v", want)
			continue
		}
		found = slices.Delete(found, at, at+1)
	}
	for _, f := range found {
		t.Errorf("found, but not planted: %v", f)
	}
	for _, rule := range configuredRules(t) {
		caught := func(want finding) bool {
			return want.linter == rule.linter && strings.Contains(want.text, rule.text)
		}
		if !slices.ContainsFunc(wanted, caught) {
			t.Errorf("%s has no planted breach in testdata/lint.txtar for %s %q", lintConfig, rule.linter, rule.text)
		}
	}
}

// plant writes the archive's files and the real lint configuration into a
// new directory. It returns the directory and what the "//want" lines ask for.
func plant(t *testing.T, archive string) (dir string, wanted []finding) {
	t.Helper()
	tree, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(lintConfig)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, f := range append(tree.Files, txtar.File{Name: ".golangci.yml", Data: config}) {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var source []byte
		for line := range bytes.Lines(f.Data) {
			want, isWant := strings.CutPrefix(strings.TrimSpace(string(line)), "//want ")
			if !isWant {
				source = append(source, line...)
				continue
			}
			linter, text, _ := strings.Cut(want, " ")
			wanted = append(wanted, finding{f.Name, linter, text})
		}
		if err := os.WriteFile(path, source, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, wanted
}

// runLinter returns what golangci-lint finds in one module of the tree.
func runLinter(t *testing.T, dir, module string) []finding {
	t.Helper()
	linter := goTool(t, "golangci-lint")
	cmd := exec.CommandContext(t.Context(), linter, "run",
		"--output.json.path=stdout", "--show-stats=false", "--allow-parallel-runners", "--timeout=5m")
	cmd.Dir = filepath.Join(dir, module)
	// The planted modules need nothing from outside, and no go.work above
	// the temporary directory counts.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOPROXY=off", "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=mod")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: there are findings
		t.Fatalf("golangci-lint in %s: %v\n%s%s", module, err, out, stderr.Bytes())
	}
	var report struct {
		Issues []struct {
			FromLinter, Text string
			Pos              struct{ Filename string }
		}
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&report); err != nil {
		t.Fatalf("golangci-lint in %s: %v\n%s%s", module, err, out, stderr.Bytes())
	}
	var found []finding
	for _, i := range report.Issues {
		found = append(found, finding{filepath.ToSlash(i.Pos.Filename), i.FromLinter, i.Text})
	}
	return found
}

// goTool returns the path of one of this module's tools, built.
func goTool(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "./tool.sh", name).Output()
	if err != nil {
		t.Fatalf("tool.sh %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// configuredRules returns one finding, without a file, for everything in the
// lint configuration that claims to find something.
func configuredRules(t *testing.T) []finding {
	t.Helper()
	var config struct {
		Linters struct {
			Enable   []string
			Settings struct {
				Depguard struct {
					Rules map[string]yaml.Node
				}
				Forbidigo struct {
					Forbid []struct{ Msg string }
				}
				Importas struct {
					Alias []struct{ Pkg string }
				}
			}
		}
		Formatters struct{ Enable []string }
	}
	b, err := os.ReadFile(lintConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &config); err != nil {
		t.Fatalf("%s: %v", lintConfig, err)
	}
	var rules []finding
	for _, linter := range slices.Concat(config.Linters.Enable, config.Formatters.Enable) {
		rules = append(rules, finding{linter: linter})
	}
	for name := range config.Linters.Settings.Depguard.Rules {
		rules = append(rules, finding{linter: "depguard", text: "'" + name + "'"})
	}
	for _, f := range config.Linters.Settings.Forbidigo.Forbid {
		rules = append(rules, finding{linter: "forbidigo", text: f.Msg})
	}
	for _, a := range config.Linters.Settings.Importas.Alias {
		rules = append(rules, finding{linter: "importas", text: a.Pkg})
	}
	return rules
}

// TestEverySwitchedOffRuleHasAReason looks for a comment at each entry that
// takes something away from the linters.
func TestEverySwitchedOffRuleHasAReason(t *testing.T) {
	b, err := os.ReadFile(lintConfig)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Errcheck struct {
					ExcludeFunctions []yaml.Node `yaml:"exclude-functions"`
				}
				Gosec       struct{ Excludes []yaml.Node }
				Govet       struct{ Disable []yaml.Node }
				Staticcheck struct{ Checks []yaml.Node }
			}
			Exclusions struct{ Rules []yaml.Node }
		}
	}
	if err := yaml.Unmarshal(b, &config); err != nil {
		t.Fatalf("%s: %v", lintConfig, err)
	}
	settings := config.Linters.Settings
	for _, entry := range slices.Concat(settings.Errcheck.ExcludeFunctions, settings.Gosec.Excludes,
		settings.Govet.Disable, settings.Staticcheck.Checks, config.Linters.Exclusions.Rules) {
		if entry.Value == "all" {
			continue // switches on
		}
		if entry.LineComment == "" && entry.HeadComment == "" {
			t.Errorf("%s:%d: %s is switched off with no reason beside it", lintConfig, entry.Line, entry.Value)
		}
	}
}

// TestEachModuleIsLinted checks that lint.sh knows each module of the repository that has
// Go code.
func TestEachModuleIsLinted(t *testing.T) {
	script, err := os.ReadFile("lint.sh")
	if err != nil {
		t.Fatal(err)
	}
	var linted []string
	for _, m := range regexp.MustCompile(`(?m)^(?:proxy|peers|kubernetes)=\((.*)\)$`).FindAllStringSubmatch(string(script), -1) {
		linted = append(linted, strings.Fields(m[1])...)
	}
	slices.Sort(linted)
	list := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard", "go.mod", "*/go.mod")
	list.Dir = ".."
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	withoutCode := []string{"tools/cluster", "tools/etcd"} // they pin programs
	var modules []string
	for _, file := range strings.Fields(string(files)) {
		if dir := filepath.Dir(file); !slices.Contains(withoutCode, dir) {
			modules = append(modules, dir)
		}
	}
	slices.Sort(modules)
	if !slices.Equal(linted, modules) {
		t.Errorf("lint.sh has the modules %q, the repository %q", linted, modules)
	}
}
