package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever isn't behind a time-out is copied as it is.
func TestOtherTextIsCopied(t *testing.T) {
	for _, text := range []string{
		"", "\n", "no end", "PASS TestOK (0.00s)\n\n=== Failed\n",
		"panic: something\n\ngoroutine 7 [running]:\nmain.f()\n\tf.go:1 +0x1\n\ngoroutine 8 [select]:\nmain.g()\n\tg.go:1\nexit status 2\n",
		"    x_test.go:1: it says \"panic: test timed out after 1s\"\n\ngoroutine 7 [running]:\nmain.f()\n",
	} {
		var out strings.Builder
		if err := shorten(&out, strings.NewReader(text)); err != nil || out.String() != text {
			t.Errorf("%q became %q (%v)", text, out.String(), err)
		}
	}
}

// A real time-out, with a thousand goroutines beside it: the name of the test and its
// stack stay, in a few lines, and so does what comes behind.
func TestTimeOutNamesItsTest(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module x\n\ngo 1.26\n", "x_test.go": hanging} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-timeout", "100ms", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	text, err := cmd.CombinedOutput()
	if err == nil || strings.Count(string(text), "\n") < 1000 {
		t.Fatalf("go test ends with %v and prints\n%s", err, text)
	}
	for _, tail := range []string{"", "\n=== FAIL: x TestHangs (unknown)\n\nDONE 3 tests, 3 failures in 1.267s\n"} {
		var out strings.Builder
		if err := shorten(&out, strings.NewReader(string(text)+tail)); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		for _, want := range []string{"panic: test timed out after 100ms", "\t\tTestHangs/inside (", "x.standsHere(", "x_test.go:", " other goroutines are left out", "FAIL\tx", tail} {
			if !strings.Contains(got, want) {
				t.Errorf("it lacks %q:\n%s", want, got)
			}
		}
		if n := strings.Count(got, "\n"); n > 40+strings.Count(tail, "\n") || strings.Contains(got, "x.besides(") {
			t.Errorf("%d lines are left:\n%s", n, got)
		}
	}
}

// A deep stack is cut, and indented output is understood.
func TestDeepStackIsCut(t *testing.T) {
	var in, out strings.Builder
	in.WriteString("    panic: test timed out after 1s\n    \trunning tests:\n    \t\tTestDeep (1s)\n    \n    goroutine 7 [select]:\n")
	for i := range 100 {
		fmt.Fprintf(&in, "    x.f%d(...)\n    \tf.go:1\n", i)
	}
	in.WriteString("    testing.tRunner(0x1, 0x2)\n    \ttesting.go:1\n    \nPASS TestOther\n")
	if err := shorten(&out, strings.NewReader(in.String())); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") > maxLines+10 || !strings.Contains(got, "TestDeep (1s)") || !strings.Contains(got, " lines more\n") || !strings.HasSuffix(got, "PASS TestOther\n") {
		t.Errorf("it became\n%s", got)
	}
}

// The program's exit status is the command's own.
func TestExitStatus(t *testing.T) {
	for script, want := range map[string]int{"echo out": 0, "echo out; exit 7": 7} {
		var out strings.Builder
		err := run(&out, exec.CommandContext(t.Context(), "sh", "-c", script))
		var exit *exec.ExitError
		if got := out.String(); got != "out\n" || (want == 0) != (err == nil) || want != 0 && (!errors.As(err, &exit) || exit.ExitCode() != want) {
			t.Errorf("%q prints %q and ends with %v, want %d", script, got, err, want)
		}
	}
	if err := run(io.Discard, exec.CommandContext(t.Context(), "/there/is/none")); err == nil {
		t.Error("a program that doesn't exist ends well")
	}
}

const hanging = `package x

import "testing"

func TestHangs(t *testing.T) {
	stop := make(chan int)
	for range 1000 {
		go besides(stop)
	}
	t.Run("inside", func(t *testing.T) { standsHere(stop) })
}

//go:noinline
func besides(stop chan int) { <-stop }

//go:noinline
func standsHere(stop chan int) { <-stop }
`
