package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"syscall"
	"testing"

	"github.com/culvert-grpc/culvert/config"
)

// What is slow to open (here: a name that a resolver is asked for) must not
// keep culvert from ending.
func TestSignalsAreHeededWhileOpening(t *testing.T) {
	clearEnvironment(t)
	loaded, err := config.Load("", map[string]any{"listen": "127.0.0.1:0", "health.listen": "off", "backend.address": "localhost:1"})
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
