package run

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// drainTimeout is how long running calls may continue when an example ends.
const drainTimeout = time.Second

// A Culvert is a running culvert.
type Culvert struct {
	Address string // host:port for clients
	Health  string // host:port of /readyz and /metrics

	stop   context.CancelFunc
	exited chan struct{}
	err    error // of the process; valid when exited is closed
}

// StartCulvert starts culvert with a configuration file, whose ${NAME} are the
// variables NAME=value, and returns when it listens.
func StartCulvert(ctx context.Context, config string, variables ...string) (*Culvert, error) {
	if _, err := os.Stat(config); err != nil {
		return nil, fmt.Errorf("%w (run the example with: go -C examples run ./NAME)", err)
	}
	program, remove, err := culvertProgram(ctx)
	if err != nil {
		return nil, err
	}
	// The example ends culvert by Stop, after its clients and before its servers.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(running, program, "serve", "--config", config, "--listen", "127.0.0.1:0",
		"--health-listen", "127.0.0.1:0", "--admin", "off", "--log-format", "json", "--drain-timeout", drainTimeout.String())
	cmd.Env = append(withoutCulvert(os.Environ()), variables...)
	cmd.WaitDelay = 10 * drainTimeout
	cmd.Cancel = func() error {
		if runtime.GOOS == "windows" { // it has no signals
			return cmd.Process.Kill()
		}
		return cmd.Process.Signal(os.Interrupt)
	}
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		stop()
		remove()
		return nil, err
	}
	c := &Culvert{stop: stop, exited: make(chan struct{})}
	listens := make(chan struct{})
	go func() { // Stop waits for it
		defer close(c.exited)
		defer remove()
		c.follow(log, listens)
		c.err = cmd.Wait()
	}()
	select {
	case <-listens:
		return c, nil
	case <-c.exited:
		stop()
		return nil, fmt.Errorf("culvert didn't start: %w", c.err)
	case <-ctx.Done():
		c.Stop()
		return nil, context.Cause(ctx)
	}
}

// Stop ends culvert.
func (c *Culvert) Stop() {
	c.stop()
	<-c.exited
}

// Wait waits until the context ends. It returns an error if culvert ends before.
func (c *Culvert) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-c.exited:
		return fmt.Errorf("culvert ended: %w", c.err)
	}
}

// culvertProgram returns the program in CULVERT_BIN, or builds culvert from this
// repository. A program that "go run" starts doesn't get our signals.
func culvertProgram(ctx context.Context) (program string, remove func(), err error) {
	if program := os.Getenv("CULVERT_BIN"); program != "" {
		return program, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "culvert-example-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // left behind in a temporary directory
	Say("example", "building culvert")
	program = filepath.Join(dir, "culvert.exe") // Windows wants the extension; others don't mind
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/culvert")
	build.Dir = ".."
	if text, err := build.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("building culvert: %w\n%s", err, text)
	}
	return program, remove, nil
}

// withoutCulvert removes culvert's own variables: an example depends on its file alone.
func withoutCulvert(environment []string) []string {
	return slices.DeleteFunc(environment, func(v string) bool { return strings.HasPrefix(v, "CULVERT_") })
}

// A line is what the examples show of a line of culvert's log.
type line struct {
	Level, Msg, Address            string
	Method, Transport, Route, Code string
	Reason, Detail, Cause, Hint    string
}

// follow reads culvert's log to its end, prints calls and warnings, and closes listens
// when the log has told both addresses.
func (c *Culvert) follow(log io.Reader, listens chan<- struct{}) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20) // culvert writes no longer line
	for lines.Scan() {
		var l line
		switch err := json.Unmarshal(lines.Bytes(), &l); {
		case err != nil: // before it knows the format of its log
			Say("culvert", "%s", lines.Text())
		case strings.HasPrefix(l.Msg, "listening") && c.Address == "":
			c.Address = l.Address
		case strings.Contains(l.Msg, "health") && c.Health == "":
			c.Health = l.Address
		case l.Msg == "call":
			Say("culvert", "%s over %s, route %q: %s", l.Method, l.Transport, l.Route, strings.TrimSpace(l.Code+" "+l.Reason))
		case l.Level != "INFO":
			Say("culvert", "%s", strings.Join(strings.Fields(l.Msg+" "+l.Reason+" "+l.Detail+" "+l.Cause+" "+l.Hint), " "))
		}
		if listens != nil && c.Address != "" && c.Health != "" {
			close(listens)
			listens = nil
		}
	}
}
