package traced

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var culvertProgram string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "culvert-traced-")
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
	cmd             *exec.Cmd
	file            string // its configuration
	address, health string

	mu    sync.Mutex
	lines []map[string]any // of its log
	more  chan struct{}    // closed and replaced with each line
	ended chan struct{}
}

// startCulvert starts culvert in front of the backend, with a configuration and variables.
func startCulvert(t *testing.T, backend, config string, variables ...string) *program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &program{file: file, more: make(chan struct{}), ended: make(chan struct{})}
	p.cmd = exec.Command(culvertProgram, "serve", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--admin", "off", "--config", file, "--backend", backend)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CULVERT_") && !strings.HasPrefix(v, "OTEL_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, variables...)
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
			for _, l := range p.lines {
				t.Log(l)
			}
		}
	})
	p.address = p.logged(t, "listening")["address"].(string)
	p.health = p.logged(t, "answering health checks")["address"].(string)
	return p
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

// logged waits for a line with the message.
func (p *program) logged(t *testing.T, msg string) map[string]any {
	t.Helper()
	return p.loggedLike(t, msg, func(map[string]any) bool { return true })
}

func (p *program) loggedLike(t *testing.T, msg string, wanted func(map[string]any) bool) map[string]any {
	t.Helper()
	late := time.After(patience)
	for {
		p.mu.Lock()
		lines, more := p.lines, p.more
		p.mu.Unlock()
		for _, l := range lines {
			if text, _ := l["msg"].(string); strings.HasPrefix(text, msg) && wanted(l) {
				return l
			}
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("culvert logs no line %q", msg)
		}
	}
}

// replaceFile writes a file in one step: culvert watches it, and would see half of it otherwise.
func replaceFile(t *testing.T, file, text string) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

// stop ends culvert by SIGTERM, and returns how long that took.
func (p *program) stop(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatal("culvert doesn't end")
	}
	return time.Since(began)
}

// metric returns the value of a time series.
func (p *program) metric(t *testing.T, series string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.health+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := exchange(r)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(series+" ")); ok {
			return strings.TrimSpace(string(value))
		}
	}
	return ""
}

// exchange sends a request on a connection of its own, and returns the body of a good answer.
func exchange(r *http.Request) ([]byte, error) {
	r.Close = true
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return body, err
}
