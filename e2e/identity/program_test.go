package identity

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const patience = 30 * time.Second

var culvertProgram string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "culvert-identity-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	culvertProgram = os.Getenv("CULVERT_BIN")
	if culvertProgram == "" {
		culvertProgram = filepath.Join(dir, "culvert")
		cmd := exec.Command("go", "build", "-o", culvertProgram, "./cmd/culvert")
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // left behind in a temporary directory
		os.Exit(code)
	}))
}

// A program is culvert, running.
type program struct {
	address string
	cmd     *exec.Cmd

	mu    sync.Mutex
	lines []map[string]any // of its log
	more  chan struct{}    // closed and replaced with each line
	ended chan struct{}
}

// startCulvert starts culvert with a configuration.
func startCulvert(t *testing.T, config string) *program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	write(t, file, config)
	p := &program{more: make(chan struct{}), ended: make(chan struct{})}
	p.cmd = exec.Command(culvertProgram, "serve", "--health-listen", "127.0.0.1:0", "--admin", "off", "--config", file)
	p.cmd.Env = environment()
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // the cleanup waits for it
		p.read(out)
		_ = p.cmd.Wait() // the tests look at its log
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
		if t.Failed() {
			t.Log(config)
			for _, l := range p.lines {
				t.Log(l)
			}
		}
	})
	p.address = p.logged(t, "listening", nil)["address"].(string)
	return p
}

// environment is this process' own, without culvert's settings and proxies.
func environment() (kept []string) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !strings.HasPrefix(name, "CULVERT_") && !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			kept = append(kept, v)
		}
	}
	return kept
}

func (p *program) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := map[string]any{}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			line["msg"] = lines.Text()
		}
		p.mu.Lock()
		p.lines = append(p.lines, line)
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// logged waits for a line with the message and these attributes.
func (p *program) logged(t *testing.T, msg string, attributes map[string]string) map[string]any {
	t.Helper()
	return p.loggedSince(t, 0, msg, attributes)
}

// now is the place in the log of the next line.
func (p *program) now() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// loggedSince leaves out lines before a place.
func (p *program) loggedSince(t *testing.T, since int, msg string, attributes map[string]string) map[string]any {
	t.Helper()
	has := func(line map[string]any) bool {
		for name, value := range attributes {
			if text, _ := line[name].(string); !strings.Contains(text, value) {
				return false
			}
		}
		text, _ := line["msg"].(string)
		return strings.HasPrefix(text, msg)
	}
	late := time.After(patience)
	for {
		p.mu.Lock()
		lines, more := p.lines, p.more
		p.mu.Unlock()
		for _, l := range lines[since:] {
			if has(l) {
				return l
			}
		}
		select {
		case <-more:
		case <-p.ended:
			t.Fatalf("culvert ended without a line %q %q", msg, attributes)
		case <-late:
			t.Fatalf("culvert logs no line %q %q", msg, attributes)
		}
	}
}

// hides fails if the log has one of the secrets.
func (p *program) hides(t *testing.T, secrets ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprint(p.lines)
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("the log has the secret %q", s)
		}
	}
}

// output runs culvert to its end, and returns what it wrote.
func output(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), culvertProgram, args...)
	cmd.Env = environment()
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("culvert %q: %v\n%s", args, err, text)
	}
	return string(text)
}

// write writes a file in one step: culvert watches it, and would see half of it otherwise.
func write(t *testing.T, file, text string) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}
