package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// The commands that scripts have besides testscript's own:
//
//	start NAME PROGRAM ARG...   run a program beside the script
//	await NAME PATTERN          wait for a line of its standard error; named
//	                            groups of the pattern become variables
//	signal NAME TERM|INT|HUP|KILL  send it a signal
//	exits NAME CODE             wait for its end
//	socket                      set SOCKET to the path of one that isn't there
//	occupy ADDRESS              see that an address is taken
//	reserve                     set RESERVED to an address that refuses
//	                            connections until a program listens there
//	mute                        set MUTE to an address that accepts connections
//	                            and never answers
//	systemd                     set NOTIFY_SOCKET to a socket of the script's
//	notified PATTERN            wait for a message there, all of which matches
//	certificates                write ca.pem, server.pem, server.key,
//	                            client.pem and client.key
//	descriptors                 write testing.binpb and health.binpb, the
//	                            descriptors of the backend's two services

// A job is a program that runs beside a script.
type job struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the program has ended and all was read

	mu      sync.Mutex
	lines   []string
	marked  int           // how many of them await passes over; the script's own
	changed chan struct{} // closed and replaced with each line
}

// jobsKey is where a script keeps its jobs.
type jobsKey struct{}

func setUp(env *testscript.Env) error {
	env.Values[jobsKey{}] = map[string]*job{}
	env.Values[socketKey{}] = new(net.PacketConn)
	var clean []string // of the variables of whoever runs the tests
	for _, v := range env.Vars {
		if !strings.HasPrefix(v, "CULVERT_") && !strings.HasPrefix(v, "NO_COLOR=") {
			clean = append(clean, v)
		}
	}
	// The race detector waits a second at the end of each program, else.
	// Scripts run beside one another, so only those about it use the admin address.
	env.Vars = append(clean, "TERM=xterm", "GORACE=atexit_sleep_ms=0", "CULVERT_ADMIN_LISTEN=off")
	return nil
}

func jobOf(ts *testscript.TestScript, name string) *job {
	j := ts.Value(jobsKey{}).(map[string]*job)[name]
	if j == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return j
}

func wantArgs(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) != n {
		ts.Fatalf("usage: %s", usage)
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start name program arg...")
	}
	program, err := lookPath(args[1], ts.Getenv("PATH"))
	ts.Check(err)
	j := &job{cmd: exec.CommandContext(context.Background(), program, args[2:]...), ended: make(chan struct{}), changed: make(chan struct{})}
	j.cmd.Dir = ts.MkAbs(".")
	// testscript doesn't tell a script's other variables: "start x env A=b …".
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "NOTIFY_SOCKET", "WATCHDOG_USEC", "GOCOVERDIR", "GORACE", "CULVERT_ADMIN_LISTEN"} {
		if value := ts.Getenv(name); value != "" {
			j.cmd.Env = append(j.cmd.Env, name+"="+value)
		}
	}
	stderr, err := j.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(j.cmd.Start())
	ts.Value(jobsKey{}).(map[string]*job)[args[0]] = j
	go j.read(stderr)
	ts.Defer(func() {
		_ = j.cmd.Process.Kill() // it may have ended
		<-j.ended
		ts.Logf("[%s]\n%s", args[0], strings.Join(j.lines, "\n"))
	})
}

func lookPath(program, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, program); isExecutable(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("no %s in %s", program, path)
}

func isExecutable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func (j *job) read(stderr io.Reader) {
	scanner := bufio.NewScanner(stderr)
	for scanner.Scan() {
		j.mu.Lock()
		j.lines = append(j.lines, scanner.Text())
		close(j.changed)
		j.changed = make(chan struct{})
		j.mu.Unlock()
	}
	_ = j.cmd.Wait() // exits looks at the state
	close(j.ended)
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "await name pattern")
	j := jobOf(ts, args[0])
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	late := time.After(cmdtest.Patience)
	for seen := j.marked; ; {
		j.mu.Lock()
		lines, changed := j.lines[seen:], j.changed
		j.mu.Unlock()
		for _, line := range lines {
			if m := pattern.FindStringSubmatch(line); m != nil {
				for i, name := range pattern.SubexpNames() {
					if name != "" {
						ts.Setenv(name, m[i])
					}
				}
				return
			}
		}
		seen += len(lines)
		select {
		case <-changed:
		case <-j.ended:
			j.mu.Lock()
			all := seen == len(j.lines)
			j.mu.Unlock()
			if all {
				ts.Fatalf("%s ended without a line like %q", args[0], args[1])
			}
		case <-late:
			ts.Fatalf("%s writes no line like %q", args[0], args[1])
		}
	}
}

// mark has await look only at what the program writes from now on: it may have written such a line
// before, for something else.
func mark(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "mark name")
	j := jobOf(ts, args[0])
	j.mu.Lock()
	defer j.mu.Unlock()
	j.marked = len(j.lines)
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "signal name TERM|INT|HUP|KILL")
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	ts.Check(jobOf(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, "exits name code")
	j := jobOf(ts, args[0])
	select {
	case <-j.ended:
	case <-time.After(cmdtest.Patience):
		ts.Fatalf("%s doesn't end", args[0])
	}
	if got := fmt.Sprint(j.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s exited with %s, want %s", args[0], got, args[1])
	}
}

// occupy waits a while for an address that another program has, such as another script's
// culvert. Then it leaves it to that program, which so seems to stay.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "occupy address")
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", args[0])
	for until := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		ln, err = new(net.ListenConfig).Listen(context.Background(), "tcp", args[0])
	}
	if err != nil {
		ts.Logf("somebody else has %s: %v", args[0], err)
		return
	}
	ts.Setenv("OCCUPIED", ln.Addr().String())
	ts.Defer(func() { _ = ln.Close() }) // the test is over
}

// mute listens, so that the kernel accepts connections, and reads none of them.
func mute(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, "mute")
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("MUTE", ln.Addr().String())
	ts.Defer(func() { _ = ln.Close() }) // the test is over
}

// socket names one in a directory of its own: the script's may be too long.
func socketPath(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, "socket")
	dir, err := os.MkdirTemp("", "socket")
	ts.Check(err)
	ts.Defer(func() { _ = os.RemoveAll(dir) }) // the test is over
	ts.Setenv("SOCKET", filepath.Join(dir, "s"))
}

// socketKey is where a script keeps its notification socket.
type socketKey struct{}

func systemd(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, "systemd")
	// A directory of its own: the script's may be too long for a socket.
	dir, err := os.MkdirTemp("", "systemd")
	ts.Check(err)
	path := filepath.Join(dir, "notify")
	conn, err := new(net.ListenConfig).ListenPacket(context.Background(), "unixgram", path)
	ts.Check(err)
	ts.Defer(func() {
		_ = conn.Close() // the test is over
		_ = os.RemoveAll(dir)
	})
	ts.Setenv("NOTIFY_SOCKET", path)
	*socketOf(ts) = conn
}

func socketOf(ts *testscript.TestScript) *net.PacketConn {
	return ts.Value(socketKey{}).(*net.PacketConn)
}

func notified(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "notified pattern")
	conn := *socketOf(ts)
	ts.Check(conn.SetReadDeadline(time.Now().Add(cmdtest.Patience)))
	message := make([]byte, 1024)
	n, _, err := conn.ReadFrom(message)
	ts.Check(err)
	pattern, err := regexp.Compile("^(?:" + args[0] + ")$")
	ts.Check(err)
	if got := string(message[:n]); !pattern.MatchString(got) {
		ts.Fatalf("systemd was told %q, want %s", got, args[0])
	}
}
