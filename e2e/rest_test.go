package e2e

import (
	"fmt"
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
	const window = 2 * time.Second
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	if err := works(t, wire.GRPC, c.address, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	woken := c.wakeUps(t)
	if err := eventually(patience, func() error {
		<-time.After(window)
		before := woken
		if woken = c.wakeUps(t); woken != before {
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
