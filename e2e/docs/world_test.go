package docs

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/e2e/spawn"
)

// root is the repository.
const root = "../.."

// The names that the documents use, all of them this machine here.
var hosts = []string{"localhost", "grpc.example.com", "app.example.com", "evil.example", "proxy.corp.example"}

// worldVariable holds the directory of the world that this process is in.
const worldVariable = "DOCS_WORLD"

// The programs on the PATH of what is run.
var (
	worldDir       string
	culvertProgram string // also as "culvert" in worldDir/bin
)

// TestMain enters a network namespace of its own, so that the ports and names in
// the documents can be used as they are written, whatever else runs here.
func TestMain(m *testing.M) {
	if asked, err := replay(); asked {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	worldDir = os.Getenv(worldVariable)
	if worldDir == "" {
		fmt.Fprintln(os.Stderr, enterWorld()) // it returns only if it failed
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	defer func() { _ = os.RemoveAll(worldDir) }() // left behind in a temporary directory
	if err := errors.Join(makeCertificates(worldDir), buildPrograms()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stop := spawn.Serve()
	code := m.Run()
	stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// enterWorld replaces this process by itself inside new namespaces.
func enterWorld() error {
	dir, err := os.MkdirTemp("", "culvert-docs-")
	if err != nil {
		return err
	}
	names := "127.0.0.1 " + strings.Join(hosts, " ") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(names), 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	// Squid's shared memory has the same names for every Squid of a machine.
	enter := `ip link set lo up && mount -t tmpfs tmpfs /dev/shm && mount --bind "` + dir + `/hosts" /etc/hosts && exec "$@"`
	argv := append([]string{"unshare", "--net", "--mount", "--", "sh", "-c", enter, "sh", self}, os.Args[1:]...)
	path := os.Getenv("PATH") + ":/usr/sbin:/sbin" // where a user without root does not look
	env := append(os.Environ(), worldVariable+"="+dir, "PATH="+path)
	return fmt.Errorf("unshare: %w: it needs root, or what make e2e makes of another user", syscall.Exec(unshare, argv, env))
}

func buildPrograms() error {
	culvertProgram = os.Getenv("CULVERT_BIN")
	if culvertProgram == "" {
		culvertProgram = filepath.Join(worldDir, "culvert")
		if text, err := exec.Command("go", "build", "-C", root, "-o", culvertProgram, "./cmd/culvert").CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, text)
		}
	}
	bin := filepath.Join(worldDir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	return errors.Join(os.Symlink(culvertProgram, filepath.Join(bin, "culvert")), linkRecordings(bin))
}

// environment is ours without what culvert would take for its configuration, and
// with culvert on the PATH.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "CULVERT_") || strings.HasSuffix(strings.ToLower(name), "_proxy") || name == worldVariable
	})
	path := []string{filepath.Join(worldDir, "bin"), os.Getenv("PATH"), filepath.Join(worldDir, "gobin")}
	return append(env, "PATH="+strings.Join(path, string(filepath.ListSeparator)))
}

// patience is for what a program has to say or to finish. It may be one that Go has to compile
// first, with all it imports, on a slow machine that does other things, too.
const patience = 10 * time.Minute

// A process is a program that a test started, with what it wrote.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it is gone
	err    error         // of Wait; valid then

	mu    sync.Mutex
	lines []string
	part  string        // of the line that is being written
	more  chan struct{} // closed and replaced with each line
}

// startProcess starts a program. It ends with the test at the latest.
func startProcess(t testing.TB, dir string, argv ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{}), more: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, environment()
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = 5 * time.Second                       // for grandchildren that keep the pipe
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group of its own: "go run" passes no signal on
	if err := spawn.Start(p.cmd); err != nil {
		t.Fatalf("%q: %v", argv, err)
	}
	go func() { // ends with the process, which the cleanup waits for
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone already if the test ended it
		<-p.exited
		if t.Failed() {
			t.Logf("%q, %v:\n%s", argv, p.cmd.ProcessState, p.output())
		}
	})
	return p
}

// Write implements io.Writer for the process' own output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.Split(p.part+string(b), "\n")
	p.part = lines[len(lines)-1]
	p.lines = append(p.lines, lines[:len(lines)-1]...)
	close(p.more)
	p.more = make(chan struct{})
	return len(b), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n") + p.part
}

// await returns the first line that is wanted.
func (p *process) await(t testing.TB, what string, wanted func(line string) bool) string {
	t.Helper()
	late := time.After(patience)
	for from := 0; ; {
		p.mu.Lock()
		lines, more := p.lines, p.more
		p.mu.Unlock()
		for ; from < len(lines); from++ {
			if wanted(lines[from]) {
				return lines[from]
			}
		}
		select {
		case <-more:
		case <-p.exited:
			t.Fatalf("%q ended (%v) without %s:\n%s", p.cmd.Args, p.err, what, p.output())
		case <-late:
			t.Fatalf("%q has not said %s:\n%s", p.cmd.Args, what, p.output())
		}
	}
}

// signal sends a signal to the process and to those it started.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil {
		t.Fatalf("%q: %v", p.cmd.Args, err)
	}
}

// end asks the process to end and wants it to do so well.
func (p *process) end(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGINT)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		t.Fatalf("%q is still there after an interrupt:\n%s", p.cmd.Args, p.output())
	}
	// "go run" ends with 1 after an interrupt, however well its program ended.
	text := strings.TrimSpace(p.output())
	if code := p.cmd.ProcessState.ExitCode(); code != 0 && !strings.HasSuffix(text, "stopping") && !strings.Contains(text, `"msg":"stopped"`) {
		t.Errorf("%q ended with %d after an interrupt:\n%s", p.cmd.Args, code, p.output())
	}
}

// logged waits for culvert's log line whose message has this word, and that has the
// named fields. It returns all fields of the line.
func (p *process) logged(t testing.TB, word string, fields ...string) map[string]any {
	t.Helper()
	var found map[string]any
	p.await(t, fmt.Sprintf("a message with %q, and %q beside it", word, fields), func(line string) bool {
		found = nil
		lacks := func(name string) bool { return found[name] == nil }
		return json.Unmarshal([]byte(line), &found) == nil && strings.Contains(fmt.Sprint(found["msg"]), word) && !slices.ContainsFunc(fields, lacks)
	})
	return found
}

// demoBackend is where the demo's service listens, as in the documents.
const demoBackend = "localhost:9000"

// startDemoBackend starts the service that the documents' commands and snippets
// speak to.
func startDemoBackend(t testing.TB) {
	t.Helper()
	p := startProcess(t, t.TempDir(), culvertProgram, "demo", "--backend-only", "--listen", "127.0.0.1:9000")
	p.await(t, "where it listens", func(line string) bool { return strings.Contains(line, "listens on") })
}

// startCulvert starts culvert on its default port in front of the demo's service,
// or of the one that args name.
func startCulvert(t testing.TB, args ...string) *process {
	t.Helper()
	if !slices.Contains(args, "--backend") {
		args = append(args, "--backend", demoBackend)
	}
	p := startProcess(t, t.TempDir(), append([]string{culvertProgram, "serve"}, args...)...)
	p.logged(t, "listening")
	return p
}

// output runs a program to its end, in dir, and returns what it wrote.
func output(t testing.TB, dir string, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, environment()
	text, err := cmd.CombinedOutput()
	return string(text), err
}
