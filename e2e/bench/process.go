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
	var sum time.Duration
	for _, pid := range p.pids() {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if len(threads) == 0 {
			return 0, errors.New("no /proc/PID/task/TID/schedstat: this needs Linux")
		}
		for _, file := range threads {
			b, err := os.ReadFile(file)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return 0, err
			}
			ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", file, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// resident is the memory of the process and its children in bytes.
func (p *process) resident() (int64, error) {
	var sum int64
	for _, pid := range p.pids() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, err
		}
		pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += pages * int64(os.Getpagesize())
	}
	return sum, nil
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
