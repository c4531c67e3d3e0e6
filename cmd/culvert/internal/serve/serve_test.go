package serve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/logs"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
)

// What is slow to open (here: a name that a resolver is asked for) must not
// keep culvert from ending.
func TestSignalsAreHeededWhileOpening(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	loaded, err := config.Load(config.Options{}, "", map[string]any{"listen": "127.0.0.1:0", "health.listen": "off", "admin.listen": "off", "backend.address": "localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGHUP // nothing is there that could be loaded again
	signals <- syscall.SIGTERM
	never := make(chan struct{})
	defer close(never)
	p := newTestProgram(t, loaded)
	p.Signals = signals
	opened, err := p.unlessEnded(func() error { <-never; return context.Canceled })
	if opened || err != nil {
		t.Errorf("opened is %v, %v, want an end without error", opened, err)
	}
	if opened, err := p.unlessEnded(func() error { return context.Canceled }); opened || err == nil {
		t.Errorf("what can't be opened: %v, %v", opened, err)
	}
}

// newTestProgram returns a program whose log goes nowhere.
func newTestProgram(t *testing.T, c *config.Loaded) *program {
	t.Helper()
	file := c.File
	written := logs.Open(io.Discard, c.Log, nil)
	t.Cleanup(func() { written.Close(lastLog) })
	written.Logger, written.Calls = slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler)
	again := func() (*config.Loaded, error) { return config.Load(config.Options{}, file, nil) }
	return &program{Options: Options{Config: c, Again: again, Out: io.Discard}, log: written, memory: newMemoryLimit(0)}
}

// A watchedLog calls seen with each message.
type watchedLog struct {
	slog.Handler
	seen func(message string)
}

func (l watchedLog) Enabled(context.Context, slog.Level) bool { return true }

func (l watchedLog) Handle(_ context.Context, r slog.Record) error {
	l.seen(r.Message)
	return nil
}

// What is slow to load again must not keep culvert from draining either.
func TestSignalsAreHeededWhileReloading(t *testing.T) {
	dir := t.TempDir()
	cmdtest.WritePair(t, dir, "a")
	loaded := cmdtest.Load(t, strings.ReplaceAll("listen: 127.0.0.1:0\nhealth: {listen: \"off\"}\nadmin: {listen: \"off\"}\nbackend: {address: \"localhost:1\"}\ntls: {cert: DIR/a.pem, key: DIR/a.key}\n", "DIR", dir))
	reloading, goOn, draining := make(chan struct{}), make(chan struct{}), make(chan struct{})
	loads := 0
	calls := slog.New(watchedLog{slog.DiscardHandler, func(message string) {
		if !strings.HasPrefix(message, "certificate ") {
			return
		}
		if loads++; loads == 2 { // a drive would take as long
			close(reloading)
			<-goOn
		}
	}})
	log := slog.New(watchedLog{slog.DiscardHandler, func(message string) {
		if strings.HasPrefix(message, "draining") {
			close(draining)
		}
	}})
	p := newTestProgram(t, loaded)
	p.log.Logger, p.log.Calls = log, calls
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	cmdtest.WritePair(t, dir, "a") // another

	signals := make(chan os.Signal, 1)
	p.Signals = signals
	ended := make(chan error, 1)
	go func() { ended <- p.run(t.Context()) }()
	signals <- syscall.SIGHUP
	<-reloading
	signals <- syscall.SIGTERM
	select {
	case <-draining:
	case <-time.After(cmdtest.Patience):
		t.Error("TERM waits for what HUP began")
	}
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDrainLeavesPassedSocketsToTheNextCulvert: the next one answers on all of them, while
// this one has calls that go on.
func TestDrainLeavesPassedSocketsToTheNextCulvert(t *testing.T) {
	dir := t.TempDir()
	cmdtest.WritePair(t, dir, "a")
	loaded := cmdtest.Load(t, strings.ReplaceAll("listen: 127.0.0.1:0\nhealth: {listen: \"127.0.0.1:0\"}\nadmin: {listen: \"127.0.0.1:0\"}\nbackend: {address: \"localhost:1\"}\ntls: {cert: DIR/a.pem, key: DIR/a.key, http_listen: \"127.0.0.1:0\"}\n", "DIR", dir))
	p := newTestProgram(t, loaded)
	var answers []string
	p.log.Logger = slog.New(watchedLog{slog.DiscardHandler, func(message string) {
		if !strings.HasPrefix(message, "draining") {
			return
		}
		for key, ln := range map[string]net.Listener{healthKey: p.ports.health, adminKey: p.ports.admin, redirectKey: p.ports.redirect} {
			if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil { // no other process has the socket here
				_ = conn.Close() // that it was accepted is all
				answers = append(answers, key)
			}
		}
	}})
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.ports.passed = sockets.Passed{healthKey: {}, adminKey: {}, redirectKey: {}}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	p.Signals = signals
	if err := p.run(t.Context()); err != nil {
		t.Error(err)
	}
	if len(answers) > 0 {
		t.Errorf("in the drain, culvert still accepts connections on the supervisor's sockets of %q", answers)
	}
}

// TestWaitsEndWithTheDrain: what doesn't respond costs no time beyond drain_timeout.
func TestWaitsEndWithTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			left, want time.Duration
		}{
			{5 * time.Second, lastLog},
			{300 * time.Millisecond, 300 * time.Millisecond},
			{time.Millisecond, minPatience},
			{-time.Second, minPatience},
		} {
			if got := patienceUntil(time.Now().Add(c.left), lastLog, 0); got != c.want {
				t.Errorf("with %v left, it waits for %v, want %v", c.left, got, c.want)
			}
		}
		if got := patienceUntil(time.Now().Add(300*time.Millisecond), lastLog, minPatience); got != 200*time.Millisecond {
			t.Errorf("with 300 ms left, of which others need %v, it waits for %v", minPatience, got)
		}
		if got := patienceUntil(time.Time{}, lastLog, 0); got != lastLog {
			t.Errorf("without a drain, it waits for %v, want %v", got, lastLog)
		}
		never := make(chan struct{})
		p := &program{ends: time.Now().Add(200 * time.Millisecond)}
		p.log = logs.Open(unreadLog{never}, config.Log{Level: "info", Format: "json"}, nil)
		p.log.Info("line")
		began := time.Now()
		p.closeLog(nil)
		if took := time.Since(began); took != 200*time.Millisecond {
			t.Errorf("the log took %v of the 200 ms that were left", took)
		}
		close(never) // lets the goroutine end
	})
}

// An unreadLog blocks until it is closed.
type unreadLog struct{ closed chan struct{} }

func (l unreadLog) Write(line []byte) (int, error) {
	<-l.closed
	return len(line), nil
}

// What was bound before a port that can't be had is given back.
func TestNothingStaysBoundAfterAFailedStart(t *testing.T) {
	taken, err := sockets.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // the test is over
	dir := t.TempDir()
	cmdtest.WritePair(t, dir, "a")
	loaded := cmdtest.Load(t, "listen: 127.0.0.1:0\nhealth: {listen: \"127.0.0.1:0\"}\nadmin: {listen: \"off\"}\nbackend: {address: \"localhost:1\"}\ntls: {cert: "+filepath.Join(dir, "a.pem")+", key: "+filepath.Join(dir, "a.key")+", http_listen: \""+taken.Addr().String()+"\"}\n")
	p := newTestProgram(t, loaded)
	if err := p.open(t.Context()); err == nil {
		t.Fatal("a port that is taken was opened")
	}
	if err := p.ports.health.(*net.TCPListener).SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port for health checks is still open: %v", err)
	}
}

// TestEndWhileOpeningLeavesNoSocket: what is open by then is closed.
func TestEndWhileOpeningLeavesNoSocket(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	path := filepath.Join(t.TempDir(), "s")
	loaded, err := config.Load(config.Options{}, "", map[string]any{"listen": "unix:" + path, "health.listen": "off", "admin.listen": "off", "backend.address": "localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	p := newTestProgram(t, loaded)
	signals := make(chan os.Signal)
	p.Signals = signals
	opened, err := p.unlessEnded(func() error {
		signals <- syscall.SIGTERM // it is heeded before this goes on
		return p.open(t.Context())
	})
	if opened || err != nil {
		t.Errorf("opened is %v, %v, want an end without error", opened, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}
