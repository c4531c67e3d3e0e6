package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// countersFile is added to culvert for the runs that count allocations and
// goroutines. The program that is timed and weighed is the ordinary one.
const countersFile = `package main

import (
	"encoding/json"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
)

func init() {
	http.HandleFunc("/counters", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		json.NewEncoder(w).Encode(map[string]any{"Mallocs": m.Mallocs, "TotalAlloc": m.TotalAlloc, "NumGC": m.NumGC, "Goroutines": runtime.NumGoroutine()})
	})
	go http.ListenAndServe(os.Getenv("BENCH_COUNTERS"), nil)
}
`

// countersVariable begins the variable that says where they are told.
const countersVariable = "BENCH_COUNTERS="

// buildOlder builds culvert from an older commit, also with countersFile in it.
func buildOlder(dir, source, commit string) (bin, counting string, err error) {
	bin = filepath.Join(dir, "culvert-older")
	folder, packed := filepath.Join(dir, "older"), filepath.Join(dir, "older.tar")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return "", "", err
	}
	for _, command := range []*exec.Cmd{
		exec.Command("git", "-C", source, "archive", "--output", packed, commit),
		exec.Command("tar", "-xf", packed, "-C", folder),
		exec.Command("go", "-C", folder, "build", "-pgo=auto", "-trimpath", "-buildvcs=false", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", bin, "./cmd/culvert"), // as the Makefile does
	} {
		command.Stderr, command.Env = os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
		if err := command.Run(); err != nil {
			return "", "", fmt.Errorf("culvert %s: %w", commit, err)
		}
	}
	counting, err = buildCounting(dir, folder, "culvert-older-counting")
	return bin, counting, err
}

// buildCounting builds culvert from its source with countersFile in it.
func buildCounting(dir, source, name string) (string, error) {
	root, err := filepath.Abs(source)
	if err != nil {
		return "", err
	}
	extra, overlay, bin := filepath.Join(dir, "counters.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, name)
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "cmd/culvert/counters_bench.go"): extra}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(extra, []byte(countersFile), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-pgo=auto", "-tags=grpcnotrace", "-overlay", overlay, "-o", bin, "./cmd/culvert")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("culvert with counters: %w", err)
	}
	return bin, nil
}

// profile fetches a CPU profile of the time that follows. stop waits for it.
func (p *peer) profile(file string, d time.Duration) (stop func()) {
	var fetching sync.WaitGroup
	fetching.Go(func() {
		resp, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.counters, int(d.Seconds())+1))
		if err != nil {
			return // the file is missing then, which says it
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err == nil {
			_ = os.WriteFile(file, b, 0o600) // as above
		}
	})
	return fetching.Wait
}

// count asks a program for its counters.
func (p *peer) count() (c counters, err error) {
	resp, err := http.Get("http://" + p.counters + "/counters")
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	return c, json.NewDecoder(resp.Body).Decode(&c)
}
