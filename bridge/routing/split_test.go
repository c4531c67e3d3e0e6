package routing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

func newSplit(t testing.TB, targets ...report.Target) *Split {
	t.Helper()
	s, err := NewSplit(targets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func all(string) bool { return true }

func TestSplitMistakes(t *testing.T) {
	for want, targets := range map[string][]report.Target{
		"sum to 0":  {{Backend: "a", Weight: 0}, {Backend: "b", Weight: 0}},
		"twice":     {{Backend: "a", Weight: 1}, {Backend: "a", Weight: 2}},
		"write 0 t": {{Backend: "a", Weight: -1}},
	} {
		if _, err := NewSplit(targets); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v gave %v, want %q", targets, err, want)
		}
	}
}

// shares returns the share of each backend in 100,000 picks.
func shares(pick func(i int) string) map[string]float64 {
	const picks = 100_000
	got := map[string]float64{}
	for i := range picks {
		got[pick(i)] += 1. / picks
	}
	return got
}

func TestSplitFollowsWeights(t *testing.T) {
	s := newSplit(t, report.Target{Backend: "stable", Weight: 95}, report.Target{Backend: "off", Weight: 0}, report.Target{Backend: "canary", Weight: 5})
	random := rand.New(rand.NewPCG(1, 2))
	for name, pick := range map[string]func(int) string{
		"random": func(int) string { return s.Pick(random.Uint64(), all) },
		"sticky": func(i int) string { return s.PickFor([]string{fmt.Sprint("user-", i)}, all) },
	} {
		got := shares(pick)
		if math.Abs(got["canary"]-0.05) > 0.004 || got["off"] != 0 {
			t.Errorf("%s: shares %v, want 5 %% for the canary and nothing for off", name, got)
		}
	}
	if first, last := s.Pick(0, all), s.Pick(math.MaxUint64, all); first != "stable" || last != "canary" {
		t.Errorf("the ends pick %s and %s", first, last)
	}
}

// If the canary's weight grows from 5 to 10 %, only users that move to it move.
func TestStickyMovesFewKeys(t *testing.T) {
	before := newSplit(t, report.Target{Backend: "stable", Weight: 95}, report.Target{Backend: "canary", Weight: 5})
	after := newSplit(t, report.Target{Backend: "canary", Weight: 10}, report.Target{Backend: "stable", Weight: 90})
	moved, back := 0, 0
	for i := range 100_000 {
		key := []string{fmt.Sprint("user-", i)}
		was, is := before.PickFor(key, all), after.PickFor(key, all)
		if was != is {
			moved++
		}
		if was == "canary" && is == "stable" {
			back++
		}
	}
	if back > 0 || moved < 4000 || moved > 6000 {
		t.Errorf("%d of 100,000 keys moved, %d of them back: want about 5,000, none back", moved, back)
	}
}

// Calls of a backend that doesn't serve go to the others by their weights, and other
// keys stay. Without any that serves, the choice is as ever. A weight of 0 takes no
// calls even then.
func TestSplitPassesOverBackendsThatDoNotServe(t *testing.T) {
	s := newSplit(t, report.Target{Backend: "a", Weight: 2}, report.Target{Backend: "b", Weight: 6}, report.Target{Backend: "c", Weight: 2}, report.Target{Backend: "off", Weight: 0})
	without := func(gone ...string) func(string) bool {
		return func(backend string) bool { return !slices.Contains(gone, backend) }
	}
	random := rand.New(rand.NewPCG(1, 2))
	for name, pick := range map[string]func(i int, serves func(string) bool) string{
		"random": func(_ int, serves func(string) bool) string { return s.Pick(random.Uint64(), serves) },
		"sticky": func(i int, serves func(string) bool) string {
			return s.PickFor([]string{fmt.Sprint("user-", i)}, serves)
		},
	} {
		for _, tt := range []struct {
			gone []string
			want map[string]float64
		}{
			{[]string{"b"}, map[string]float64{"a": 0.5, "c": 0.5}},
			{[]string{"a"}, map[string]float64{"b": 0.75, "c": 0.25}},
			{[]string{"a", "b"}, map[string]float64{"c": 1}},
			{[]string{"a", "b", "c"}, map[string]float64{"a": 0.2, "b": 0.6, "c": 0.2}},
		} {
			got := shares(func(i int) string { return pick(i, without(tt.gone...)) })
			for backend, want := range tt.want {
				if math.Abs(got[backend]-want) > 0.01 || len(got) != len(tt.want) {
					t.Errorf("%s, without %v: shares %v, want %v", name, tt.gone, got, tt.want)
				}
			}
		}
	}
	for i := range 1000 {
		key := []string{fmt.Sprint("user-", i)}
		if was := s.PickFor(key, all); was != "b" && s.PickFor(key, without("b")) != was {
			t.Errorf("%s moved from %s, although only b is gone", key, was)
		}
	}
	asked := 0
	leaving := func(backend string) bool { asked++; return backend == "a" && asked < 4 }
	if got := s.Pick(math.MaxUint64, leaving); got != "c" {
		t.Errorf("the last backend that serves went away while Pick looked: %q, want c", got)
	}
}

// All replicas, and all versions of culvert, choose the same backend for a key.
func TestStickyIsStable(t *testing.T) {
	s := newSplit(t, report.Target{Backend: "a", Weight: 1}, report.Target{Backend: "b", Weight: 1}, report.Target{Backend: "c", Weight: 2})
	var got []string
	for _, key := range [][]string{{"alice"}, {"bob"}, {"carol"}, {""}, {"a", "b"}, {"ab"}} {
		got = append(got, s.PickFor(key, all))
	}
	if got, want := strings.Join(got, " "), "a c c b c a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkSplit(b *testing.B) {
	s := newSplit(b, report.Target{Backend: "stable", Weight: 95}, report.Target{Backend: "canary", Weight: 5})
	b.Run("random", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Pick(rand.Uint64(), all)
		}
	})
	key := []string{"user-4711"}
	b.Run("sticky", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.PickFor(key, all)
		}
	})
}
