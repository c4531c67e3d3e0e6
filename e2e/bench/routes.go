package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// culvertOne with so many routes, of which the last one takes the benchmark's calls.
const (
	routes1     = "1 route"
	routes100   = "100 routes"
	routes10000 = "10,000 routes"

	// The garbage collector scans the routes, too. With this suffix it has little to do,
	// so what is left is the lookup.
	rarely = ", GOGC=1000"
)

var routeCounts = map[string]int{routes1: 1, routes100: 100, routes10000: 10_000}

func (a *arena) culvertRoutes(ctx context.Context, name string) (*peer, error) {
	env := oneThread
	count, seldom := strings.CutSuffix(name, rarely)
	if seldom {
		env = append(env, "GOGC=1000")
	}
	return a.culvertWith(ctx, &peer{name: name}, env, routesConfig(routeCounts[count]))
}

// routesConfig has n routes: a third each match a host, a prefix and a service. Every
// lookup for the benchmark's calls goes through all of these kinds, and finds the last
// route.
func routesConfig(n int) string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := range n - 1 {
		form := []string{"match: {hosts: [team%d.localhost]}", "match: {path_prefix: /team%d}, rewrite: {path_prefix: /}", "match: {methods: [team%d.v1.Service/*]}"}[i%3]
		fmt.Fprintf(&b, "  - {name: r%d, backend: default, "+form+"}\n", i, i)
	}
	b.WriteString("  - {name: bench, match: {methods: [bench.Bench/*]}, backend: default}\n")
	return b.String()
}

// validateTime is how long "culvert validate" takes for a file with routes, in
// milliseconds: the median of nine.
func validateTime(ctx context.Context, a *arena, name string) (float64, error) {
	file, err := a.config(routesConfig(routeCounts[name]))
	if err != nil {
		return 0, err
	}
	return medianTime(9, func(int) (time.Duration, error) {
		validate := exec.CommandContext(ctx, a.bins.culvert, "validate", "--config", file)
		validate.Env = append(os.Environ(), "CULVERT_BACKEND_ADDRESS="+a.backend.line, "CULVERT_LISTEN="+freeAddress())
		began := time.Now()
		said, err := validate.CombinedOutput()
		took := time.Since(began)
		if bytes.Contains(said, []byte("warning")) {
			err = errors.Join(err, errors.New("a warning"))
		}
		if err != nil {
			return 0, fmt.Errorf("culvert validate: %w: %.1000s", err, said)
		}
		return took, nil
	})
}
