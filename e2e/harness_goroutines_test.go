package e2e

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// goroutines ends a culvert with SIGQUIT, which makes a Go program say what its
// goroutines do, and returns how many there were of each kind, by what they were
// created by.
func (p *process) goroutines(t testing.TB) map[string]int {
	t.Helper()
	settled(t, func() int64 { return int64(p.processor(t)) }) // what is ending has ended
	p.signal(t, syscall.SIGQUIT)
	p.wait(t, patience)
	header := regexp.MustCompile(`^goroutine [1-9]\d* .*\[`) // 0 is a thread's own
	kinds := map[string]int{}
	kind := ""
	count := func() {
		if kind != "" {
			kinds[kind]++
		}
		kind = ""
	}
	for _, line := range p.output.all() {
		switch {
		case header.MatchString(line):
			count()
			kind = "main"
		case kind != "" && strings.HasPrefix(line, "created by "):
			kind, _, _ = strings.Cut(strings.TrimPrefix(line, "created by "), " in goroutine")
		}
	}
	count()
	if len(kinds) == 0 {
		t.Fatalf("no goroutines in %q", p.output.tail(5))
	}
	return kinds
}

// threads returns how many threads a process has.
func (p *process) threads(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(p.proc("task"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// goroutinesAtRest is what another culvert before the same backend has when it
// has served a call over each transport.
func goroutinesAtRest(t testing.TB, b *backend) map[string]int {
	t.Helper()
	c := startCulvert(t, b.address, culvertOptions{})
	warm(t, c)
	return c.goroutines(t)
}

// warm makes a call over each transport, and waits until their connections are
// gone.
func warm(t testing.TB, c *culvert) {
	t.Helper()
	for _, transport := range wire.All {
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
	}
	settled(t, func() int64 { return int64(c.descriptors(t)) })
}

// wantGoroutines ends culvert and compares its goroutines.
func wantGoroutines(t testing.TB, c *culvert, want map[string]int) {
	t.Helper()
	got := c.goroutines(t)
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		// The runtime's own come when they are needed first.
		if got[kind] != want[kind] && !strings.HasPrefix(kind, "runtime.") {
			t.Errorf("%d goroutines created by %s, want %d", got[kind], kind, want[kind])
		}
	}
}
