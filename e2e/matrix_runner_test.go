package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/spawn"
)

// A runner runs the jobs of some clients and tells what they saw, phase by phase.
// In the last one it tells nothing: the clients go away under their calls.
type runner struct {
	platform string           // the first word of its clients' names
	seen     chan observation // closed when no more will come
	next     func()           // ends a phase
	err      error            // valid when seen is closed
}

// startNode starts a program of node/ with jobs. It ends with the test.
func startNode(t *testing.T, platform, program string, jobs []job) *runner {
	t.Helper()
	if _, err := os.Stat("node/node_modules"); err != nil {
		t.Fatalf("the JavaScript clients are not installed: npm ci --prefix e2e/node (%v)", err)
	}
	cmd := exec.Command("node", program)
	cmd.Dir = "node"
	return startRunner(t, platform, cmd, jobs)
}

// startRunner starts a program that reads jobs. It ends with the test.
func startRunner(t *testing.T, platform string, cmd *exec.Cmd, jobs []job) *runner {
	t.Helper()
	list, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := spawn.Start(cmd); err != nil {
		t.Fatal(err)
	}
	r := &runner{platform: platform, seen: make(chan observation)}
	stopped := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		defer close(r.seen)
		if _, err := in.Write(append(list, '\n')); err != nil {
			r.err = err
		}
		if err := readObservations(out, r.seen, stopped); err != nil && r.err == nil {
			r.err = err
		}
		if err := cmd.Wait(); err != nil {
			r.err = fmt.Errorf("%v: %w\n%s", cmd.Args, err, &stderr)
		} else if stderr.Len() > 0 {
			t.Logf("%v says:\n%s", cmd.Args, &stderr)
		}
	})
	r.next = func() { _, _ = io.WriteString(in, "next\n") } // if it is gone, that shows in what it saw
	t.Cleanup(func() {
		close(stopped)
		_ = cmd.Process.Kill() // if it hasn't ended with its work
		work.Wait()
	})
	return r
}

// runs reports whether a job is one of this runner's.
func (r *runner) runs(j job) bool { return strings.HasPrefix(j.Client, r.platform+" ") }

// readObservations reads a line of JSON for each.
func readObservations(in io.Reader, to chan<- observation, stopped <-chan struct{}) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16*mib)
	for lines.Scan() {
		var o observation
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return fmt.Errorf("%w in %q", err, lines.Text())
		}
		select {
		case to <- o:
		case <-stopped:
		}
	}
	return lines.Err()
}

// bundlePage returns the script of the browser's page.
func bundlePage(t *testing.T) []byte { return bundle(t, "page.js") }

// bundle returns a file of node/ with all that it imports, for a browser.
func bundle(t *testing.T, file string) []byte {
	t.Helper()
	cmd := exec.Command("node", "bundle.js", file)
	cmd.Dir = "node"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	script, err := cmd.Output()
	if err != nil {
		t.Fatalf("node bundle.js %s: %v\n%s", file, err, &stderr)
	}
	return script
}
