//go:build amd64

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
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
	load := tallyNamed(t, exportedLoad)
	load.messages = 1600
	rows := []struct {
		name string
		env  []string
		most float64 // of what a call takes without exports, with the noise of a busy machine
	}{
		{"off", nil, 1},
		{"traces, ratio 0", []string{"CULVERT_OTLP_TRACES=" + receiver.URL, "CULVERT_TRACES_RATIO=0"}, 1.01},
		{"traces, ratio 0.01", []string{"CULVERT_OTLP_TRACES=" + receiver.URL, "CULVERT_TRACES_RATIO=0.01"}, 1.02},
		{"traces, ratio 1", []string{"CULVERT_OTLP_TRACES=" + receiver.URL}, 1.15},
		{"lines", []string{"CULVERT_OTLP_LOGS=" + receiver.URL}, 1.10},
		{"metrics", []string{"CULVERT_OTLP_METRICS=" + receiver.URL}, 1.10},
	}
	counts, errs := make([]float64, len(rows)), make([]error, len(rows))
	var counting sync.WaitGroup
	processors := make(chan struct{}, runtime.NumCPU()) // callgrind runs one thread at a time
	for i, row := range rows {
		counting.Go(func() {
			processors <- struct{}{}
			counts[i], errs[i] = countExports(t.Context(), load, bin, row.env)
			<-processors
		})
	}
	counting.Wait()
	for i, row := range rows {
		if errs[i] == nil && counts[i] > row.most*counts[0] {
			// A busy machine adds to a count, and takes nothing from it: the least of two is nearer.
			for _, k := range []int{0, i} {
				n, err := countExports(t.Context(), load, bin, rows[k].env)
				if err != nil {
					t.Fatal(err)
				}
				counts[k] = min(counts[k], n)
			}
		}
		of := counts[i] / counts[0]
		t.Logf("%s: %.1f thousand, %+.2f %%", row.name, counts[i]/1000, (of-1)*100)
		if errs[i] != nil || of > row.most {
			t.Errorf("%s: %.3f of what a call takes without exports, want at most %.3f (%v)", row.name, of, row.most, errs[i])
		}
	}
}

// countExports counts the instructions of a call in an arena of its own. Beside metrics for
// Prometheus, sampled calls have exemplars.
func countExports(ctx context.Context, load tally, bin string, env []string) (float64, error) {
	a, err := openArena(ctx, programs{culvert: bin})
	if err != nil {
		return 0, err
	}
	defer a.close()
	return load.instructions(ctx, a, tallyMetrics, append(env, "GOGC=off")...)
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
