package main

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

func TestMemoryLimitSettings(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	m := newMemoryLimit()
	set := func(configured config.Size) {
		bytes, source := m.find(configured)
		m.set(log, bytes, source)
	}
	set(512 << 20)
	if m.bytes != 512<<20 || debug.SetMemoryLimit(-1) != 512<<20 || !strings.Contains(out.String(), "limit=512MiB by=limits.memory") {
		t.Errorf("limits.memory of 512 MiB gives %d, the runtime's is %d: %s", m.bytes, debug.SetMemoryLimit(-1), out.String())
	}
	out.Reset()
	set(512 << 20)
	if out.Len() > 0 {
		t.Errorf("the same limit again is logged: %s", out.String())
	}
	set(1 << 30)
	if got := debug.SetMemoryLimit(-1); got != 1<<30 || !strings.Contains(out.String(), "limit=1GiB by=limits.memory") {
		t.Errorf("after a change to 1 GiB the runtime's limit is %d: %s", got, out.String())
	}
	m.set(log, 0, "")
	if got := debug.SetMemoryLimit(-1); got != before || !strings.Contains(out.String(), "no longer limited") {
		t.Errorf("without a limit again the runtime's is %d, want %d: %s", got, before, out.String())
	}
	set(512 << 20)
	m.remove()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("afterwards the runtime's limit is %d, want %d", got, before)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30) // as the runtime does at the start
	m = newMemoryLimit()
	set(512 << 20)
	if m.bytes != 512<<20 || debug.SetMemoryLimit(-1) != 1<<30 {
		t.Errorf("beside GOMEMLIMIT: %d, the runtime's is %d", m.bytes, debug.SetMemoryLimit(-1))
	}
	set(0)
	if m.bytes != 1<<30 || m.source != "GOMEMLIMIT" {
		t.Errorf("GOMEMLIMIT alone gives %d by %s, want %d", m.bytes, m.source, 1<<30)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "off")
	m = newMemoryLimit()
	set(0) // the container's, if this runs in one
	if m.bytes < 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("GOMEMLIMIT=off: %d, the runtime's is %d", m.bytes, debug.SetMemoryLimit(-1))
	}
}

// TestMemoryLimitSurvivesAFailedRead: a reload that can't read the container's limit
// keeps it.
func TestMemoryLimitSurvivesAFailedRead(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		err  error
		want int64
	}{
		{&os.PathError{Op: "open", Path: "/proc/self/mountinfo", Err: syscall.EMFILE}, 9 << 30},
		{memlimit.ErrNoLimit, 0},
		{memlimit.ErrNoCgroup, 0},
		{memlimit.ErrCgroupsNotSupported, 0},
	} {
		m := newMemoryLimit()
		m.container = func() (uint64, error) { return 10 << 30, nil }
		bytes, source := m.find(0)
		m.set(log, bytes, source)
		m.container = func() (uint64, error) { return 0, c.err }
		if bytes, _ = m.find(0); bytes != c.want {
			t.Errorf("after %v the limit is %d, want %d", c.err, bytes, c.want)
		}
		if bytes, source = m.find(1 << 30); bytes != 1<<30 || source != "limits.memory" {
			t.Errorf("limits.memory after %v gives %d by %s", c.err, bytes, source)
		}
		m.remove()
		fresh := newMemoryLimit()
		fresh.container = m.container
		if bytes, source = fresh.find(0); bytes != 0 || source != "" {
			t.Errorf("%v at the start gives %d by %q, want none", c.err, bytes, source)
		}
	}
}

func TestMemoryBoundsTheBudget(t *testing.T) {
	clearEnvironment(t)
	for _, c := range []struct {
		flags map[string]any
		limit int64
		want  int64
	}{
		{nil, 0, 256 << 20},
		{nil, 4 << 30, 256 << 20},
		{nil, 120 << 20, 65 << 19},
		{nil, 24 << 20, 16 << 20}, // a message has to fit
		{map[string]any{"limits.buffered_bytes": "100MiB"}, 128 << 20, 100 << 20},
	} {
		loaded, err := config.Load(config.Options{}, "", c.flags)
		if err != nil {
			t.Fatal(err)
		}
		cfg := bridgeConfig(loaded)
		var out bytes.Buffer
		boundMemory(&cfg, c.limit, loaded, slog.New(slog.NewTextHandler(&out, nil)))
		if warned := strings.Contains(out.String(), "message_bytes="); warned != (c.limit == 24<<20) {
			t.Errorf("with %d of memory the log has %q", c.limit, out.String())
		}
		if got := cfg.Limits.BufferedBytes; got != c.want {
			t.Errorf("%v with %d of memory: a budget of %d, want %d", c.flags, c.limit, got, c.want)
		}
		if bounded := cfg.Memory > 0; bounded != (c.limit > 0) || cfg.Memory > c.limit {
			t.Errorf("with %d of memory clients have %d", c.limit, cfg.Memory)
		}
	}
	var none bridge.Config
	boundMemory(&none, 0, nil, nil)
}
