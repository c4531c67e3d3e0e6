package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// A Vite is a running dev server of Vite.
type Vite struct {
	Address string // host:port
	stop    func()
}

// StartVite starts Vite's dev server for the pages in a directory, and returns when it
// listens. The first time, it installs the npm packages of the examples.
func StartVite(ctx context.Context, dir string) (*Vite, error) {
	if _, err := os.Stat("node_modules"); errors.Is(err, fs.ErrNotExist) {
		Say("example", "installing the npm packages of the pages")
		if text, err := exec.CommandContext(ctx, "npm", "ci").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm ci: %w\n%s", err, text)
		}
	}
	cache, err := os.MkdirTemp("", "culvert-example-") // examples may run at the same time
	if err != nil {
		return nil, err
	}
	// Like culvert, it ends by Stop.
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(running, "node", "vite.js", dir, cache)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		end()
		_ = os.RemoveAll(cache) // empty
		return nil, fmt.Errorf("node vite.js: %w", err)
	}
	v := &Vite{stop: func() {
		end()
		_ = cmd.Wait()          // killed
		_ = os.RemoveAll(cache) // left behind in a temporary directory
	}}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		v.Stop()
		return nil, fmt.Errorf("node vite.js ended before it listened: %w", err)
	}
	v.Address = strings.TrimSpace(line)
	go func() { _, _ = io.Copy(io.Discard, lines) }() // ends with the process
	return v, nil
}

// Stop ends the dev server.
func (v *Vite) Stop() { v.stop() }
