//go:build amd64

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tracedLoad is the load that the cost of traces is counted with.
const tracedLoad = "instructions: unary calls, gRPC-Web, 100 B"

// TestInstructionsOfTraces: a call costs as much as without traces while none is sampled, little
// more if few are, and a bounded share more if all are, with their export.
func TestInstructionsOfTraces(t *testing.T) {
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
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer receiver.Close()
	a, err := openArena(t.Context(), programs{culvert: bin})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	load := tallyNamed(t, tracedLoad)
	load.messages = 1600
	for _, peer := range []string{tallyOff, tallyMetrics} { // with metrics, a sampled call has exemplars
		count := func(env ...string) float64 {
			n, err := load.instructions(t.Context(), a, peer, append(env, "GOGC=off")...)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		off := count()
		t.Logf("%s, off: %.1f thousand", peer, off/1000)
		for _, c := range []struct {
			ratio string
			most  float64 // of what a call takes without traces, with the noise of a busy machine
		}{{"0", 1.01}, {"0.01", 1.02}, {"1", 1.15}} {
			n := count("CULVERT_OTLP_TRACES="+receiver.URL, fmt.Sprint("CULVERT_TRACES_RATIO=", c.ratio))
			t.Logf("%s, ratio %s: %.1f thousand, %+.2f %%", peer, c.ratio, n/1000, (n/off-1)*100)
			if n > off*c.most {
				t.Errorf("%s, ratio %s: %.3f of what a call takes without traces, want at most %.3f", peer, c.ratio, n/off, c.most)
			}
		}
	}
}

func tallyNamed(t *testing.T, name string) tally {
	t.Helper()
	for _, load := range tallies {
		if load.name == name {
			return load
		}
	}
	t.Fatalf("there is no load %q", name)
	return tally{}
}
