package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startExample builds and starts a program of ../examples, as "go -C examples run" does.
func startExample(t *testing.T, name string, args ...string) *process {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if err := goBuild("../examples", program, "./"+name); err != nil {
		t.Fatal(err)
	}
	argv := []string{"env", "--chdir=../examples", "CULVERT_BIN=" + culvertProgram, program}
	p := startProcess(t, name, "", append(argv, args...)...)
	t.Cleanup(func() { // before startProcess kills it, which its culvert would outlive
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already if the test stopped it
		p.wait(t, patience)
	})
	return p
}

// checkExample runs an example with --check, until it has succeeded. It returns what
// the example printed, which has a line for each of the patterns, in this order.
func checkExample(t *testing.T, name string, patterns ...string) string {
	t.Helper()
	p := startExample(t, name, "--check")
	if code := p.wait(t, 2*time.Minute); code != 0 {
		t.Fatalf("%s --check ended with %d", name, code)
	}
	lines := p.output.all()
	from := 0
	for _, pattern := range patterns {
		wanted := regexp.MustCompile(pattern)
		for from < len(lines) && !wanted.MatchString(lines[from]) {
			from++
		}
		if from++; from > len(lines) {
			t.Fatalf("%s --check: no line matches %q behind those of the patterns before it:\n%s", name, pattern, strings.Join(lines, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

// lookAtExample runs an example, and a script of node that looks at its page in
// Chromium. It returns what the script printed.
func lookAtExample(t *testing.T, name, script string) string {
	t.Helper()
	p := startExample(t, name)
	line, _, err := p.output.find(t.Context(), 0, regexp.MustCompile(`^page +open http://`).MatchString)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", script, line[strings.Index(line, "http://"):])
	cmd.Dir = "node"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("node %s: %v\n%s\n%s", script, err, &stderr, out)
	}
	return string(out)
}
