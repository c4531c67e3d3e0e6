// Package differential compares culvert's implementation of a protocol with another
// one. Both get the same sequences. The sequences come from seeds, so that each can
// be made again.
package differential

import (
	"flag"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	sequences = flag.Int("sequences", 0, "how many sequences a differential test compares; 0: as many as it is for")
	seed      = flag.Uint64("seed", 0, "the seed of a differential test's first sequence")
)

// A Difference is an allowed difference between culvert and the other
// implementation.
type Difference struct {
	Name string
	RFC  string // the section that supports culvert
	Why  string // culvert differs
}

// A Verdict is the result of comparing two implementations in one sequence.
type Verdict struct {
	Known    []string // names of the differences that explain the result
	Fault    string   // an unexplained difference; "": none
	Sequence string   // for a reader
}

// maxFaults is how many sequences a run reports. Further ones probably have the
// same cause.
const maxFaults = 5

// enough is how many sequences have every known difference.
const enough = 300_000

// Run compares n sequences, or the number in -sequences, on all processors. If they
// are enough, every difference of the table must explain something in one of them.
func Run(t *testing.T, n int, table []Difference, compare func(t *testing.T, seed uint64) Verdict) {
	t.Helper()
	if *sequences > 0 {
		n = *sequences
	}
	r := &run{seen: make(map[string]int), next: *seed, end: *seed + uint64(n)}
	for _, d := range table {
		if _, twice := r.seen[d.Name]; twice || d.Name == "" || d.RFC == "" || d.Why == "" {
			t.Errorf("the difference %q has no name of its own, no section or no reason", d.Name)
		}
		r.seen[d.Name] = 0
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() { r.work(t, compare) })
	}
	workers.Wait()
	for _, d := range table {
		switch n := r.seen[d.Name]; {
		case n > 0:
			t.Logf("%7d × %s (%s)", n, d.Name, d.RFC)
		case r.compared >= enough:
			t.Errorf("no sequence has the difference %q: take it from the table, or make sequences that have it", d.Name)
		}
	}
	t.Logf("%d sequences, %d alike in everything", r.compared, r.alike)
}

type run struct {
	faults atomic.Int32

	mu              sync.Mutex
	next, end       uint64
	compared, alike int
	seen            map[string]int
}

// work compares sequence after sequence.
func (r *run) work(t *testing.T, compare func(*testing.T, uint64) Verdict) {
	for {
		r.mu.Lock()
		s := r.next
		r.next++
		r.mu.Unlock()
		if s >= r.end || r.faults.Load() >= maxFaults {
			return
		}
		r.note(t, s, compare(t, s))
	}
}

func (r *run) note(t *testing.T, s uint64, v Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.compared++
	if len(v.Known) == 0 && v.Fault == "" {
		r.alike++
	}
	for _, name := range v.Known {
		if _, listed := r.seen[name]; !listed {
			v.Fault += fmt.Sprintf("\nthe difference %q isn't in the table", name)
		}
		r.seen[name]++
	}
	if v.Fault != "" {
		r.faults.Add(1)
		t.Errorf("seed %d: %s\nIts sequence, which \"-args -seed %d -sequences 1\" compares again:\n%s", s, v.Fault, s, indented(v.Sequence))
	}
}

// Matches reports whether the pattern of a difference matches all of the text.
func Matches(pattern, text string) bool {
	return regexp.MustCompile(`^(` + pattern + `)$`).MatchString(text)
}

func indented(text string) string {
	return "\t" + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n\t")
}
