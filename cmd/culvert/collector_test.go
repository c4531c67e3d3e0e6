package main

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// gcPercent returns the GOGC in force.
func gcPercent() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}

func TestCollectorIsConstant(t *testing.T) {
	t.Setenv("GOGC", "")
	before := gcPercent()
	_, stop := setCollector()
	for range 20 { // cycles in a row, as under a load of short calls
		runtime.GC()
		if got := gcPercent(); got != collectorPercent {
			t.Fatalf("GOGC is %d, want %d", got, collectorPercent)
		}
	}
	stop()
	if got := gcPercent(); got != before {
		t.Errorf("GOGC is %d after stop, want %d", got, before)
	}
}

func TestOperatorSetsGOGC(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "77")
	block, stop := setCollector()
	defer stop()
	if got := gcPercent(); got != 77 || block != 0 {
		t.Errorf("GOGC is %d beside a block of %d bytes, want the operator's 77 and none", got, block)
	}
}

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
