package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a program that a test started. It writes its output to a file.
type Process struct {
	Name string
	Log  string // the file with its output

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	err    error         // of Wait; valid then
}

// A Starter starts processes on a thread of its own, which lives until Close. The
// kernel ends the processes with that thread (PR_SET_PDEATHSIG), so that a test that
// panics leaves nothing running.
type Starter struct {
	dir    string // of the logs
	orders chan order
	work   sync.WaitGroup
}

type order struct {
	cmd  *exec.Cmd
	done chan error
}

// NewStarter returns a starter whose processes write their logs into dir.
func NewStarter(dir string) *Starter {
	s := &Starter{dir: dir, orders: make(chan order)}
	s.work.Go(s.serve)
	return s
}

func (s *Starter) serve() {
	runtime.LockOSThread()
	for o := range s.orders {
		o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		o.done <- o.cmd.Start()
	}
}

// Close ends the thread. All processes must have been waited for.
func (s *Starter) Close() {
	close(s.orders)
	s.work.Wait()
}

// Start starts a program. The log is NAME.log. Env are variables besides those of this
// process. The caller must stop or wait for the process.
func (s *Starter) Start(name string, env []string, argv ...string) (*Process, error) {
	p := &Process{Name: name, Log: filepath.Join(s.dir, name+".log"), cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	log, err := os.Create(p.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	o := order{p.cmd, make(chan error)}
	s.orders <- o
	if err := <-o.done; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() { // ends with the process, which the caller waits for
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process is gone.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// Stop asks the process to end, waits as long as patience, and then kills it, which
// is an error. So is an exit code other than 0.
func (p *Process) Stop(patience time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.Kill()
		return fmt.Errorf("%s: still there %v after SIGTERM", p.Name, patience)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.Name, p.err)
	}
	return nil
}

// Kill ends the process with SIGKILL, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // gone already if it failed
	<-p.exited
}

// Until calls check until it succeeds, the context ends or the process is gone. The
// error then is the last one of check.
func (p *Process) Until(ctx context.Context, check func(context.Context) error) error {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s has ended (%w)\n%s", p.Name, p.err, p.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s isn't ready (%w): %w\n%s", p.Name, ctx.Err(), err, p.Tail(20))
		case <-again.C:
		}
	}
}

// Tail returns the last lines of the output.
func (p *Process) Tail(lines int) string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
