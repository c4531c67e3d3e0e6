//go:build amd64

package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the program of the arena's backend.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-serve-backend") {
		if err := serveBackend(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// instructions are those of a unary call over each transport, in thousands, without the
// collector's: whether one collection more falls into a load is chance. A busy machine adds up
// to 1.5 % to what a quiet one counts, so they are of neither.
var instructions = map[string]float64{
	"instructions: unary calls, native gRPC, 100 B":      213.0,
	"instructions: unary calls, gRPC-Web, 100 B":         213.0,
	"instructions: unary calls, a WebSocket each, 100 B": 358.5,
}

// TestInstructionsOfACall: it takes as many as before, give or take 2 %. A change that makes
// a call dearer is seen here, before a benchmark shows it beside its noise. The figures
// also change with Go and with modules.
func TestInstructionsOfACall(t *testing.T) {
	bin, built := os.LookupEnv("CULVERT_BIN")
	if !built {
		bin = filepath.Join(t.TempDir(), "culvert")
		if out, err := exec.Command("go", "-C", "../..", "build", "-pgo=auto", "-o", bin, "./cmd/culvert").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Setenv("CULVERT_BIN", "")                        // and back at the end
	if err := os.Unsetenv("CULVERT_BIN"); err != nil { // culvert would take it for configuration
		t.Fatal(err)
	}
	a, err := openArena(t.Context(), programs{culvert: bin})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	counted := 0
	for _, load := range tallies {
		want, ok := instructions[load.name]
		if !ok {
			continue // a message of a stream takes 3 % more or less each time
		}
		counted++
		load.messages = 400
		n, err := load.instructions(t.Context(), a, tallyOff, "GOGC=off")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f thousand", load.name, n/1000)
		if got := n / 1000; math.Abs(got-want) > want*0.02 {
			t.Errorf("%s: %.1f thousand for each, want %.1f", load.name, got, want)
		}
	}
	if counted != len(instructions) {
		t.Errorf("%d loads were counted, want %d", counted, len(instructions))
	}
}
