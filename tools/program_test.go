package tools

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// buildProgram builds culvert and returns the path of the file.
func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "culvert")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/culvert")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// run runs a command and returns what it wrote. A command that fails fails the test.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// An effectiveConfig is the part of "culvert config print" that deploy/ must agree with.
type effectiveConfig struct {
	Listen  string
	Backend struct{ Address string }
	Health  struct{ Listen string }
	Drain   time.Duration `yaml:"drain_timeout"`
}

// commentedKey matches a key that "culvert config print" comments out, because
// nothing sets it.
var commentedKey = regexp.MustCompile(`(?m)^( *)#(\w+:)`)

// configOf returns the configuration that the program has with the variables.
func configOf(t *testing.T, program string, env ...string) effectiveConfig {
	t.Helper()
	var c effectiveConfig
	printed := commentedKey.ReplaceAllString(run(t, env, program, "config", "print"), "$1$2")
	if err := yaml.Unmarshal([]byte(printed), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// afterDrain is a reserve for a busy machine: the process needs no time after
// drain_timeout.
const afterDrain = 2 * time.Second
