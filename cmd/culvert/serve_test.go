package main

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
	"time"

	"github.com/culvert-grpc/culvert/config"
)

// What is slow to open (here: a name that a resolver is asked for) must not
// keep culvert from ending.
func TestSignalsAreHeededWhileOpening(t *testing.T) {
	clearEnvironment(t)
	loaded, err := config.Load(config.Options{}, "", map[string]any{"listen": "127.0.0.1:0", "health.listen": "off", "admin.listen": "off", "backend.address": "localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGHUP // nothing is there that could be loaded again
	signals <- syscall.SIGTERM
	never := make(chan struct{})
	defer close(never)
	p := &program{config: loaded, log: slog.New(slog.DiscardHandler), calls: slog.New(slog.DiscardHandler), out: io.Discard}
	opened, err := p.unlessEnded(signals, func() error { <-never; return context.Canceled })
	if opened || err != nil {
		t.Errorf("opened is %v, %v, want an end without error", opened, err)
	}
	if opened, err := p.unlessEnded(signals, func() error { return context.Canceled }); opened || err == nil {
		t.Errorf("what can't be opened: %v, %v", opened, err)
	}
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
	writeTestPair(t, dir, "a")
	loaded := loadFile(t, strings.ReplaceAll("listen: 127.0.0.1:0\nhealth: {listen: \"off\"}\nadmin: {listen: \"off\"}\nbackend: {address: \"localhost:1\"}\ntls: {cert: DIR/a.pem, key: DIR/a.key}\n", "DIR", dir))
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
	p := &program{config: loaded, log: log, calls: calls, out: io.Discard}
	p.again = func() (*config.Loaded, error) { return config.Load(config.Options{}, loaded.File, nil) }
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	writeTestPair(t, dir, "a") // another

	signals := make(chan os.Signal, 1)
	ended := make(chan error, 1)
	go func() { ended <- p.run(t.Context(), signals) }()
	signals <- syscall.SIGHUP
	<-reloading
	signals <- syscall.SIGTERM
	select {
	case <-draining:
	case <-time.After(30 * time.Second):
		t.Error("TERM waits for what HUP began")
	}
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What was bound before a port that can't be had is given back.
func TestNothingStaysBoundAfterAFailedStart(t *testing.T) {
	taken, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // the test is over
	dir := t.TempDir()
	writeTestPair(t, dir, "a")
	loaded := loadFile(t, "listen: 127.0.0.1:0\nhealth: {listen: \"127.0.0.1:0\"}\nadmin: {listen: \"off\"}\nbackend: {address: \"localhost:1\"}\ntls: {cert: "+filepath.Join(dir, "a.pem")+", key: "+filepath.Join(dir, "a.key")+", http_listen: \""+taken.Addr().String()+"\"}\n")
	p := &program{config: loaded, log: slog.New(slog.DiscardHandler), calls: slog.New(slog.DiscardHandler), out: io.Discard}
	if err := p.open(t.Context()); err == nil {
		t.Fatal("a port that is taken was opened")
	}
	if err := p.healthListener.(*net.TCPListener).SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port for health checks is still open: %v", err)
	}
}

// TestEndWhileOpeningLeavesNoSocket: what is open by then is closed.
func TestEndWhileOpeningLeavesNoSocket(t *testing.T) {
	clearEnvironment(t)
	path := filepath.Join(t.TempDir(), "s")
	loaded, err := config.Load(config.Options{}, "", map[string]any{"listen": "unix:" + path, "health.listen": "off", "admin.listen": "off", "backend.address": "localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	p := &program{config: loaded, log: slog.New(slog.DiscardHandler), calls: slog.New(slog.DiscardHandler), out: io.Discard}
	signals := make(chan os.Signal)
	opened, err := p.unlessEnded(signals, func() error {
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
