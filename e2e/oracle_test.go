package e2e

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// startOracle starts improbable-eng's wrapper before the backend.
func startOracle(t *testing.T, b *backend) string {
	t.Helper()
	p := startProcess(t, "oracle", "", oracleProgram, "-backend", b.address)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	line, _, err := p.output.find(ctx, 0, func(l string) bool { return strings.HasPrefix(l, "listening ") })
	if err != nil {
		t.Fatalf("oracle: %v", err)
	}
	return strings.TrimPrefix(line, "listening ")
}

// The same scripts before the same backend: culvert does what improbable-eng's
// wrapper does, but for the differences that are listed, and all of those are
// still there.
func TestOracle(t *testing.T) {
	t.Parallel() // most of it is waiting for what never comes
	b := startBackend(t, backendOptions{})
	theirAddress := startOracle(t, b)
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-origin", oracleOrigin}})
	scripts := oracleScripts()
	var mu sync.Mutex
	found := make([]int, len(differences)) // in how many scripts
	played := 0
	t.Run("scripts", func(t *testing.T) { // ends when all of them have
		for _, s := range scripts {
			t.Run(strings.NewReplacer(" ", "_", "/", "-").Replace(s.name), func(t *testing.T) {
				t.Parallel()
				ours, theirs := s.run(t, b, c.address), s.run(t, b, theirAddress)
				before := diff(ours, theirs)
				mu.Lock()
				defer mu.Unlock()
				played++
				for i, d := range differences {
					if !regexp.MustCompile(d.in).MatchString(s.name) {
						continue
					}
					o, th := d.change(ours, theirs)
					if !slices.Equal(o, ours) || !slices.Equal(th, theirs) {
						found[i]++
					}
					ours, theirs = o, th
				}
				if !slices.Equal(ours, theirs) {
					t.Errorf("a difference that is not listed:\n%s\nall of them:\n%s", diff(ours, theirs), before)
				}
			})
		}
	})
	t.Logf("%d scripts", len(scripts))
	if played != len(scripts) {
		return // some of them were asked for
	}
	for i, d := range differences {
		t.Logf("in %3d: %s: %s", found[i], d.what, d.why)
		if found[i] == 0 {
			t.Errorf("there is no difference any more: %s", d.what)
		}
	}
}
