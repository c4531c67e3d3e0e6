//go:build amd64

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// exportedLoad is the load that the cost of exports is counted with.
const exportedLoad = "instructions: unary calls, gRPC-Web, 100 B"

// TestInstructionsOfExports: a call costs as much as without traces while none is sampled, little
// more if few are, and a bounded share more if all are, or if its line is exported. Metrics cost it
// what they cost for Prometheus; the export of this many series each second is a part of it.
func TestInstructionsOfExports(t *testing.T) {
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
	load := tallyNamed(t, exportedLoad)
	load.messages = 1600
	// Beside metrics for Prometheus, with which a sampled call has exemplars.
	count := func(env ...string) float64 {
		n, err := load.instructions(t.Context(), a, tallyMetrics, append(env, "GOGC=off")...)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	off := count()
	t.Logf("off: %.1f thousand", off/1000)
	for _, c := range []struct {
		name string
		env  []string
		most float64 // of what a call takes without exports, with the noise of a busy machine
	}{
		{"traces, ratio 0", []string{"CULVERT_OTLP_TRACES=" + receiver.URL, "CULVERT_TRACES_RATIO=0"}, 1.01},
		{"traces, ratio 0.01", []string{"CULVERT_OTLP_TRACES=" + receiver.URL, "CULVERT_TRACES_RATIO=0.01"}, 1.02},
		{"traces, ratio 1", []string{"CULVERT_OTLP_TRACES=" + receiver.URL}, 1.15},
		{"lines", []string{"CULVERT_OTLP_LOGS=" + receiver.URL}, 1.10},
		{"metrics", []string{"CULVERT_OTLP_METRICS=" + receiver.URL}, 1.10},
	} {
		n := count(c.env...)
		t.Logf("%s: %.1f thousand, %+.2f %%", c.name, n/1000, (n/off-1)*100)
		if n > off*c.most {
			t.Errorf("%s: %.3f of what a call takes without exports, want at most %.3f", c.name, n/off, c.most)
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
