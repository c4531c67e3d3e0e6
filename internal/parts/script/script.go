// Package script has what testscript's scripts of several programs share: programs that run
// beside a script, and certificates.
package script

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
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
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
)

// LeakChecked are tests that fail when one leaves a goroutine.
type LeakChecked struct{ *testing.M }

// Run runs them, and returns the exit code.
func (m LeakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// patience is for what takes no time: a test that waits so long has failed.
const patience = 2 * time.Minute

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

// SetUp is for testscript.Params, or a part of what is.
func SetUp(env *testscript.Env) error {
	env.Values[jobsKey{}] = map[string]*job{}
	// The race detector waits a second at the end of each program, else.
	env.Vars = append(env.Vars, "GORACE=atexit_sleep_ms=0")
	return nil
}

// Commands returns the commands with those of a program of its own:
//
//	start NAME PROGRAM ARG...   run a program beside the script
//	await NAME PATTERN          wait for a line of its standard error; named
//	                            groups of the pattern become variables
//	mark NAME                   have await pass over the lines until now
//	signal NAME TERM|INT|HUP|KILL  send it a signal
//	exits NAME CODE             wait for its end
//	certificates NAME           write the certificate and key of a CA, of a server with a
//	                            name or an address, and of a client: ca, server and client,
//	                            .pem and .key
func Commands(own map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	own["await"] = await
	own["certificates"] = certificates
	own["exits"] = exits
	own["mark"] = mark
	own["signal"] = sendSignal
	own["start"] = start
	return own
}

// WantArgs ends a script whose command is used wrongly.
func WantArgs(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) != n {
		ts.Fatalf("usage: %s", usage)
	}
}

func jobOf(ts *testscript.TestScript, name string) *job {
	j := ts.Value(jobsKey{}).(map[string]*job)[name]
	if j == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return j
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
	WantArgs(ts, neg, args, 2, "await name pattern")
	j := jobOf(ts, args[0])
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	late := time.After(patience)
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
	WantArgs(ts, neg, args, 1, "mark name")
	j := jobOf(ts, args[0])
	j.mu.Lock()
	defer j.mu.Unlock()
	j.marked = len(j.lines)
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	WantArgs(ts, neg, args, 2, "signal name TERM|INT|HUP|KILL")
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	ts.Check(jobOf(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	WantArgs(ts, neg, args, 2, "exits name code")
	j := jobOf(ts, args[0])
	select {
	case <-j.ended:
	case <-time.After(patience):
		ts.Fatalf("%s doesn't end", args[0])
	}
	if got := fmt.Sprint(j.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s exited with %s, want %s", args[0], got, args[1])
	}
}

// certificates makes new ones each time. The server's is about to expire.
func certificates(ts *testscript.TestScript, neg bool, args []string) {
	WantArgs(ts, neg, args, 1, "certificates name")
	ca, err := authority.Make()
	ts.Check(err)
	server := &x509.Certificate{NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: "server"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(args[0]); ip != nil {
		server.IPAddresses = []net.IP{ip}
	} else {
		server.DNSNames = args
	}
	write := func(name string, pair tls.Certificate, err error) {
		ts.Check(err)
		ts.Check(authority.Write(pair, ts.MkAbs(name+".pem"), ts.MkAbs(name+".key")))
	}
	write("ca", ca.Pair(), nil)
	pair, err := ca.Issue(server)
	write("server", pair, err)
	pair, err = ca.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	write("client", pair, err)
}
