package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestNothingWakesCulvertAtRest: after a call, and without clients, no timer of culvert
// runs. A tick each second would show in every window.
func TestNothingWakesCulvertAtRest(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	if err := works(t, wire.GRPC, c.address, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	c.rests(t)
}

// TestExportsWakeCulvertOnceAnInterval: between two exports of metrics it rests, whatever else it
// would export.
func TestExportsWakeCulvertOnceAnInterval(t *testing.T) {
	t.Parallel()
	requests := make(chan string, 1000)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { requests <- r.URL.Path }))
	defer receiver.Close()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: fmt.Sprintf("otlp: {endpoint: %q, metrics_interval: 4s}\n", receiver.URL)})
	if err := works(t, wire.GRPC, c.address, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for late := time.After(patience); seen["/v1/traces"] == 0 || seen["/v1/logs"] == 0 || seen["/v1/metrics"] == 0; {
		select {
		case path := <-requests:
			seen[path]++
		case <-late:
			t.Fatalf("culvert exported only %v", seen)
		}
	}
	c.rests(t)
}

// rests waits until nothing wakes the program for a while.
func (p *process) rests(t testing.TB) {
	t.Helper()
	const window = 2 * time.Second
	woken := p.wakeUps(t)
	if err := eventually(patience, func() error {
		<-time.After(window)
		before := woken
		if woken = p.wakeUps(t); woken != before {
			return fmt.Errorf("culvert woke up %d times in %v", woken-before, window)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// wakeUps returns how often the threads of the process waited for something so far.
func (p *process) wakeUps(t testing.TB) (count int64) {
	t.Helper()
	threads, err := filepath.Glob(p.proc("task/*/status"))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads of the process: %v", err)
	}
	for _, file := range threads {
		status, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
		text, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		count += n
	}
	return count
}
