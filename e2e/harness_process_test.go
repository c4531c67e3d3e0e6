package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/e2e/spawn"
)

// A process is a program that a test started. It ends with the test at the
// latest.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *output
	exited chan struct{} // closed when the process is gone
	err    error         // of Wait; valid then
}

// startProcess starts a program with its output caught. A namespace, if not "",
// is the network namespace to start it in.
func startProcess(t testing.TB, name, namespace string, argv ...string) *process {
	t.Helper()
	if namespace != "" {
		argv = append([]string{"ip", "netns", "exec", namespace}, argv...) // it execs: the pid stays
	}
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), output: newOutput(), exited: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.cmd.Env = environment()
	p.follow(t, r, w)
	return p
}

// follow starts the process, whose output comes from r; w is its end of that.
func (p *process) follow(t testing.TB, r io.ReadCloser, w io.Closer) {
	t.Helper()
	if err := spawn.Start(p.cmd); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	_ = w.Close() // the process has its own
	var reading sync.WaitGroup
	reading.Go(func() { p.output.copyFrom(r) })
	go func() { // ends with the process, which the cleanup below waits for
		p.err = p.cmd.Wait()
		reading.Wait()
		_ = r.Close() // read to its end
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // gone already if the test stopped it
		<-p.exited
		if t.Failed() {
			t.Logf("%s (pid %d) %v, its last lines:\n%s", p.name, p.pid(), p.cmd.ProcessState, p.output.tail(40))
		}
	})
}

// environment is ours without what culvert would take for its configuration. Tests run
// beside one another, so only those about the admin address turn it on.
func environment() []string {
	ours := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CULVERT_") })
	return append(ours, "CULVERT_ADMIN_LISTEN=off")
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal. With SIGSTOP it returns once the process has stopped: on a busy machine
// its threads go on for a while.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v: %v", p.name, s, err)
	}
	if s != syscall.SIGSTOP {
		return
	}
	err := error(syscall.EINTR)
	for err == syscall.EINTR { //nolint:errorlint // Waitid returns it as it is
		err = unix.Waitid(unix.P_PID, p.pid(), nil, unix.WSTOPPED|unix.WNOWAIT, nil)
	}
	if err != nil {
		t.Fatalf("%s has not stopped: %v", p.name, err)
	}
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.exited
}

// wait waits until the process is gone and returns its exit code.
func (p *process) wait(t testing.TB, patience time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s is still there after %v", p.name, patience)
		return -1
	}
}

// status reads a line of /proc/PID/status that is in kB, and returns bytes.
func (p *process) status(t testing.TB, field string) int64 {
	t.Helper()
	n, err := p.look(field)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// look is status for a process that may be gone.
func (p *process) look(field string) (int64, error) {
	b, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", p.pid(), field)
}

func (p *process) rss(t testing.TB) int64 { t.Helper(); return p.status(t, "VmRSS") }

// peak returns the largest RSS since resetPeak.
func (p *process) peak(t testing.TB) int64 { t.Helper(); return p.status(t, "VmHWM") }

func (p *process) resetPeak(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(p.proc("clear_refs"), []byte("5"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *process) descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(p.proc("fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// processor returns the processor time that was used so far.
func (p *process) processor(t testing.TB) time.Duration {
	t.Helper()
	used, err := p.clock()
	if err != nil {
		t.Fatal(err)
	}
	return used
}

// clock is processor for a process that may be gone.
func (p *process) clock() (time.Duration, error) {
	b, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest) // from "state", field 3 of proc(5)
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil // USER_HZ
}

func (p *process) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(p.pid()), file)
}

// output is what a process wrote, by lines.
type output struct {
	mu    sync.Mutex
	lines []string
	ended bool
	more  chan struct{} // closed and replaced at each line, and at the end
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) copyFrom(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		o.mu.Lock()
		if line != "" {
			o.lines = append(o.lines, strings.TrimSuffix(line, "\n"))
		}
		o.ended = err != nil
		close(o.more)
		o.more = make(chan struct{})
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// find returns the first line from number from on that is wanted, and the number
// of the line after it. It waits for it as long as ctx.
func (o *output) find(ctx context.Context, from int, wanted func(line string) bool) (string, int, error) {
	for {
		o.mu.Lock()
		lines, ended, more := o.lines, o.ended, o.more
		o.mu.Unlock()
		for ; from < len(lines); from++ {
			if wanted(lines[from]) {
				return lines[from], from + 1, nil
			}
		}
		if ended {
			return "", from, fmt.Errorf("no such line: %w", io.EOF)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", from, fmt.Errorf("no such line: %w", ctx.Err())
		}
	}
}

func (o *output) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines
}

func (o *output) tail(n int) string {
	lines := o.all()
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
