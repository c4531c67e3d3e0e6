//go:build unix

package serve

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// TestReloadNeverWaitsForAPipe: one in place of the file would block forever.
func TestReloadNeverWaitsForAPipe(t *testing.T) {
	r := newReloadTest(t, reloadBase)
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(r.file, 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload(true)
	r.want("a pipe", "told:concise:true", "not a regular file")
}

// TestPipeOfAValueIsReadOnce: a reload would reject it, although nothing changed.
func TestPipeOfAValueIsReadOnce(t *testing.T) {
	r := newReloadTest(t, reloadBase)
	pipe := filepath.Join(filepath.Dir(r.file), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	r.write(reloadBase + "allow_origins: [\"file:pipe\"]\n")
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(pipe, []byte("https://a.example"), 0o600) }() // received below
	c, err := source{file: r.file}.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if newReloader(c, r.load, nil).readsAgain() {
		t.Error("the file is read again")
	}
}

// TestPipeIsReadOnce: a shell writes "--config <(…)".
func TestPipeIsReadOnce(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(pipe, []byte(reloadBase), 0o600) }() // received below
	s := source{file: pipe}
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	r := newReloader(c, s.loadAgain, nil)
	if r.readsAgain() {
		t.Error("a pipe is read again")
	}
	r.current().File = filepath.Join(t.TempDir(), "none")
	if !r.readsAgain() {
		t.Error("a file that is missing for a moment isn't read again")
	}
	if lines := strings.Join(r.problems(), ""); lines != "" {
		t.Errorf("problems: %s", lines)
	}
}
