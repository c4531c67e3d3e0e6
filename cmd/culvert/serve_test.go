package main

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// A writerFunc is a function as a writer.
type writerFunc func(line []byte)

func (f writerFunc) Write(line []byte) (int, error) {
	f(line)
	return len(line), nil
}

// TestServeLeavesGOMAXPROCS checks that culvert runs with what Go, or the
// operator, has chosen.
func TestServeLeavesGOMAXPROCS(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	t.Setenv("GOMAXPROCS", "") // for this process it is set below
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var listening, ended int
	stderr := writerFunc(func(line []byte) {
		switch {
		case bytes.Contains(line, []byte("listening")):
			listening = runtime.GOMAXPROCS(0)
			if err := self.Signal(syscall.SIGTERM); err != nil { // serve has a handler by now
				t.Error(err)
			}
		case bytes.Contains(line, []byte("stopped")):
			ended = runtime.GOMAXPROCS(0)
		}
	})
	args := []string{"serve", "--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--health-listen", "off", "--log-format", "json"}
	if code := run(args, io.Discard, stderr); code != exitDone {
		t.Errorf("serve exits with %d", code)
	}
	if listening != 3 || ended != 3 {
		t.Errorf("GOMAXPROCS was %d at the start and %d at the end, want 3", listening, ended)
	}
}
