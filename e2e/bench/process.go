package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is a program that was started here, with its children.
type process struct {
	cmd  *exec.Cmd
	logs string // what it writes
	line string // the first line of its standard output, if that was asked for
}

// start starts a program. With wantLine it returns when that has printed its
// first line.
func start(ctx context.Context, dir string, env []string, name string, wantLine bool, args ...string) (*process, error) {
	// Each process has a log of its own: what earlier ones wrote would be read with it.
	out, err := os.CreateTemp(dir, filepath.Base(name)+"-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.CommandContext(ctx, name, args...), logs: out.Name()}
	p.cmd.Stderr = out
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Dir = dir
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	var stdout io.ReadCloser
	if wantLine {
		if stdout, err = p.cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	} else {
		p.cmd.Stdout = out
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if wantLine {
		if p.line, err = bufio.NewReader(stdout).ReadString('\n'); err != nil {
			return nil, fmt.Errorf("%s said nothing: %w (see %s)", name, err, p.logs)
		}
		p.line = strings.TrimSpace(p.line)
	}
	return p, nil
}

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Cancel() // it may have ended already
	_ = p.cmd.Wait()   // a signal is how it was to end
}

// explain ends a Go program that hangs with SIGQUIT, and writes to standard
// error what it says then: where its goroutines stand.
func (p *process) explain() {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it may have ended already
	_ = p.cmd.Wait()                          // with the runtime's exit status
	said, err := os.ReadFile(p.logs)
	fmt.Fprintf(os.Stderr, "%s (%v):\n%s\n", p.cmd.Path, err, said)
}

// pids are the process and its children (nginx has workers).
func (p *process) pids() []int {
	pids := []int{p.cmd.Process.Pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[0]))
	for _, file := range tasks {
		b, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// cpu is the time that the process and its children have run, user and system,
// to the nanosecond: the sum of their threads'. No thread of these programs
// ends while they are measured, or its share would be missing.
func (p *process) cpu() (time.Duration, error) {
	ns, err := p.sum("task/*/schedstat", func(file string) (int64, error) { return numberAt(file, 0) })
	return time.Duration(ns), err
}

// resident is the memory of the process and its children in bytes.
func (p *process) resident() (int64, error) {
	pages, err := p.sum("statm", func(file string) (int64, error) { return numberAt(file, 1) })
	return pages * int64(os.Getpagesize()), err
}

// switches is how often the threads of the process and its children have slept: their
// voluntary context switches. Each is followed by a wake-up.
func (p *process) switches() (int64, error) {
	return p.sum("task/*/status", func(file string) (int64, error) { return number(file, "voluntary_ctxt_switches:") })
}

// sum adds the numbers up that read finds in files of /proc/PID, of the process and its
// children.
func (p *process) sum(pattern string, read func(file string) (int64, error)) (sum int64, err error) {
	for _, pid := range p.pids() {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/%s", pid, pattern))
		if len(files) == 0 {
			return 0, fmt.Errorf("no /proc/PID/%s: this needs Linux", pattern)
		}
		for _, file := range files {
			n, err := read(file)
			if thread := len(files) > 1; err != nil && (!thread || !errors.Is(err, os.ErrNotExist)) { // it may end meanwhile
				return 0, fmt.Errorf("%s: %w", file, err)
			}
			sum += n
		}
	}
	return sum, nil
}

// numberAt returns one of the numbers that a file consists of.
func numberAt(file string, i int) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.Fields(string(b))[i], 10, 64)
}

// peak is the most memory that the process has had, in bytes.
func (p *process) peak() (int64, error) {
	kib, err := number(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), "VmHWM:")
	return kib << 10, err
}

// median of figures; 0 of none.
func median(figures []float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// medianTime is the median of n times, in milliseconds.
func medianTime(n int, once func(i int) (time.Duration, error)) (float64, error) {
	times := make([]float64, n)
	for i := range times {
		took, err := once(i)
		if err != nil {
			return 0, err
		}
		times[i] = float64(took.Microseconds()) / 1e3
	}
	return median(times), nil
}
